use super::*;
use crate::reader::MEMORY;
use crate::sampling::identity;
use rprof_ebpf::plan::Plan;
use rprof_ebpf::runtimes::Interpreter;
use rprof_ebpf::runtimes::python::PythonInterpreter;

/// Nobody is asked: each question ends before that.
fn reading() -> (Reading, Sender<Question>) {
    let modules = Arc::new(Modules::default());
    modules.add_interpreter(Arc::new(Detected {
        version: String::new(),
        interpreter: Interpreter::new(0, &PythonInterpreter::default()),
        plan: Plan::default(),
    }));
    let (questions, asked) = crossbeam_channel::bounded(QUESTIONS);
    let reader = Reader::new(Arc::default(), MEMORY);
    let identity = identity::tests::identity();
    (Reading::new(asked, (reader, identity), modules), questions)
}

fn sample(pid: u32, interpreter: u32) -> Sample {
    let mut sample = Sample {
        interpreter,
        ..Sample::default()
    };
    sample.task.own.tgid = pid;
    sample
}

#[test]
fn each_object_has_an_answer() {
    const GONE: u32 = i32::MAX as u32;
    let (mut reading, questions) = reading();
    let mut inquiry = Inquiry::new(questions);
    for (pid, interpreter, column) in [
        (0, 0, Column::Unnamed),
        (1, 1, Column::Unnamed),
        (GONE, 0, Column::TargetGone),
    ] {
        inquiry.want(&sample(pid, interpreter), &[(1, 1), (2, 1), (2, 1)]);
        inquiry.ask_all();
        assert!(inquiry.next(None).is_none());
        reading.ask(reading.questions.recv().expect("a question"));
        for address in [1, 2] {
            let answer = inquiry.next(None).expect("an answer");
            assert_eq!(answer.object, (address, 1));
            assert_eq!(answer.code.err(), Some(column));
        }
        assert!(inquiry.next(None).is_none() && inquiry.pending.is_empty());
    }
}

/// What was read counts if the process is still the same; what was not read is nobody's.
#[test]
fn what_was_read_of_another_does_not_count() {
    use prost::Message;
    let detected = |reading: &Reading| reading.modules.interpreter(0).expect("one");
    // A byte of the first object, and why there is none of the second: it would fault.
    let fields = [0x0a, 1, 7, 0x12, 2, 1, 0, 0x1a, 2, 0, 1];
    for (still, first) in [
        (Ok(()), Column::Unnamed),
        (Err(Ended::Program), Column::Changed),
        (Err(Ended::Thread), Column::TargetGone),
    ] {
        let (reading, questions) = reading();
        let mut inquiry = Inquiry::new(questions);
        inquiry.want(&sample(1, 0), &[(1, 1), (2, 1)]);
        inquiry.ask_all();
        let question = reading.questions.recv().expect("a question");
        let fields = Fields::decode(&fields[..]).expect("fields");
        let again = question.take(Ok(fields), &detected(&reading), |_| still);
        assert!(again.is_none());
        for (address, column) in [(1, first), (2, Column::WouldFault)] {
            let answer = inquiry.next(None).expect("an answer");
            assert_eq!(answer.object, (address, 1));
            assert_eq!(answer.code.err(), Some(column), "{still:?}");
        }
    }
}

/// It is asked again by the thread that was sampled last: nothing is said of its objects before.
#[test]
fn a_process_whose_first_thread_has_ended_is_asked_by_another() {
    use prost::Message;
    // Of the two objects there is nothing: their memory is gone.
    let fields = [0x12, 2, 0, 0, 0x1a, 2, 5, 5];
    let (reading, questions) = reading();
    let detected = reading.modules.interpreter(0).expect("one");
    let mut inquiry = Inquiry::new(questions);
    let mut sample = sample(1, 0);
    for tid in [2, 3] {
        sample.task.own.tid = tid;
        inquiry.want(&sample, &[(tid.into(), 1)]);
    }
    inquiry.ask_all();
    let mut question = reading.questions.recv().expect("a question");
    assert!(question.own.tid == 3 && !question.by_thread);
    for (still, again) in [(Ended::FirstThread, true), (Ended::Thread, false)] {
        let fields = Fields::decode(&fields[..]).expect("fields");
        let rest = question.take(Ok(fields), &detected, |_| Err(still));
        assert_eq!(rest.is_some(), again);
        let Some(rest) = rest else { break };
        assert!(rest.by_thread && inquiry.next(None).is_none());
        question = rest;
    }
    for _ in 0..2 {
        let answer = inquiry.next(None).expect("an answer");
        assert_eq!(answer.code.err(), Some(Column::TargetGone));
    }
}

#[test]
fn one_process_cannot_ask_for_all_that_may_be_asked_for() {
    let (reading, questions) = reading();
    let mut inquiry = Inquiry::new(questions);
    let objects: Vec<Object> = (0..MAX_PENDING as u64).map(|n| (n, 1)).collect();
    inquiry.want(&sample(1, 0), &objects);
    let pending = |inquiry: &Inquiry| inquiry.pending.values().map(HashSet::len).sum::<usize>();
    assert_eq!(pending(&inquiry), MAX_PENDING_EACH);
    let mut other = sample(2, 0);
    other.task.process.tgid = 2;
    inquiry.want(&other, &[(1, 1)]);
    inquiry.ask_all();
    assert_eq!(pending(&inquiry), MAX_PENDING_EACH + 1);
    // When all places are taken, nobody waits for an answer that was not asked for.
    for tgid in 3..9 {
        other.task.process.tgid = tgid;
        inquiry.want(&other, &objects);
    }
    assert_eq!(pending(&inquiry), MAX_PENDING);
    assert!(inquiry.pending.values().all(|objects| !objects.is_empty()));
    inquiry.ask_all();
    reading.questions.try_iter().for_each(drop);
    while inquiry.next(None).is_some() {}
    assert!(inquiry.pending.is_empty());
}

#[test]
fn one_question_at_a_time_is_asked_about_a_process() {
    let (mut reading, questions) = reading();
    let mut inquiry = Inquiry::new(questions);
    let sample = sample(0, 0);
    let waited = Waited::new(&reading.beside, sample.task.process);
    inquiry.want(&sample, &[(1, 1)]);
    inquiry.ask_all();
    reading.ask(reading.questions.recv().expect("a question"));
    assert!(reading.again.is_empty() && inquiry.next(None).is_none());
    drop(waited);
    reading.ask(reading.again.try_recv().expect("the same again"));
    assert!(inquiry.next(None).is_some());
}
