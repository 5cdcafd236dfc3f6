use super::*;
use crate::profile::Limits;
use crate::sampling::reading::Question;
use rprof_ebpf::frame::{Tag, address};
use rprof_ebpf::record::{RecordHeader, put};
use rprof_symbolize::runtimes::Code;

/// A worker that gives kernel stacks up to 3 frames, and its book.
fn worker() -> (Worker, Book) {
    worker_with(None)
}

/// The same, with somebody who reads names for it.
fn worker_with(inquiry: Option<Inquiry>) -> (Worker, Book) {
    worker_that(inquiry, false)
}

/// The same; `mark_faults`: under `--on-fault mark`.
fn worker_that(inquiry: Option<Inquiry>, mark_faults: bool) -> (Worker, Book) {
    let (forget, _) = crossbeam_channel::bounded(1);
    let shared = Shared {
        profile: Mutex::new(Some(Intervals::new(Limits {
            max_memory: 1 << 20,
            directory: std::env::temp_dir(),
        }))),
        modules: Arc::default(),
        kernel_frames: Some(3),
        mark_faults,
        live: Live::default(),
        forget,
        selection: Selection::default(),
    };
    let book = Book::default();
    (
        Worker::new(Arc::new(shared), book.clone(), inquiry, false),
        book,
    )
}

/// A batch of one sample, as the programs write it.
fn batch(kernel: &[u64], user: &[u64], change: impl FnOnce(&mut Sample)) -> Batch {
    let mut sample = Sample {
        header: RecordHeader {
            kind: RecordKind::Sample as u32,
            ..RecordHeader::default()
        },
        kernel_frames: kernel.len() as u32,
        user_words: user.len() as u32,
        ..Sample::default()
    };
    sample.task.flags = task_flags::IN_KERNEL;
    change(&mut sample);
    let mut record = vec![0; size_of::<Sample>() / 8];
    put(&sample, &mut record);
    record.extend(kernel.iter().chain(user));
    let mut batch = vec![record.len() as u64];
    batch.extend(record);
    batch
}

/// The column that a batch of one sample ends in, and why its stack ends, if it is truncated.
fn column(batch: Batch) -> (Column, Option<End>) {
    let (mut worker, book) = worker();
    worker.batch(batch);
    let book = book.open();
    assert_eq!(book.ledger.machine.total(), 1);
    let mut columns = Column::ALL.iter();
    let column = columns.find(|&&column| book.ledger.machine.get(column) == 1);
    let end = book.ledger.truncated.keys().next().copied();
    (*column.unwrap(), end)
}

#[test]
fn what_makes_no_sense_is_malformed() {
    let pc = address(Tag::Anonymous, 0x1000);
    assert_eq!(column(batch(&[1], &[pc], |_| {})), (Column::Resolved, None));
    let malformed = (Column::Malformed, None);
    assert_eq!(column(batch(&[], &[pc, 0xff << 56], |_| {})), malformed);
    assert_eq!(column(batch(&[], &[0xff << 56], |_| {})), malformed);
    // An interpreted frame has three words.
    assert_eq!(column(batch(&[], &[5 << 56, 1], |_| {})), malformed);
    assert_eq!(column(batch(&[1], &[pc], |s| s.user_words += 1)), malformed);
    let many = |sample: &mut Sample| sample.kernel_frames = u32::MAX;
    assert_eq!(column(batch(&[1], &[pc], many)), malformed);
    assert_eq!(column(batch(&[1], &[pc], |s| s.end = 1000)), malformed);
}

#[test]
fn a_kernel_stack_of_as_many_frames_as_there_can_be_is_cut() {
    let cut = (Column::Truncated, Some(End::Kernel));
    assert_eq!(
        column(batch(&[1, 2], &[], |_| {})),
        (Column::Resolved, None)
    );
    assert_eq!(column(batch(&[1, 2, 3], &[], |_| {})), cut);
    // The interrupt hit in the kernel, which then said nothing of its stack.
    assert_eq!(column(batch(&[], &[], |_| {})), cut);
    let in_user = |sample: &mut Sample| sample.task.flags = 0;
    assert_eq!(column(batch(&[], &[], in_user)), (Column::Resolved, None));
    // The user side's own reason comes first.
    let depth = |sample: &mut Sample| sample.end = End::Depth as u32;
    let expected = (Column::Truncated, Some(End::Depth));
    assert_eq!(column(batch(&[1, 2, 3], &[], depth)), expected);
}

#[test]
fn what_a_dead_worker_held_is_lost_with_it() {
    let (mut worker, book) = worker();
    let waits = |sample: &mut Sample| sample.task.process.tgid = 1;
    worker.batch(batch(&[], &[5 << 56, 0x1000, 1], waits));
    assert_eq!(worker.waiting.len(), 1);
    let mut left = batch(&[1], &[], |_| {});
    left.extend(batch(&[2], &[], |_| {}));
    left.extend(batch(&[1], &[], |_| {}));
    worker.batch = Arc::new(left);
    worker.done = 1;
    worker.abandon();
    assert_eq!(book.open().ledger.machine.get(Column::WorkerLost), 3);
    assert_eq!(book.open().ledger.machine.total(), 3);
}

#[test]
fn what_is_asked_is_not_waited_for() {
    let (questions, asked) = crossbeam_channel::bounded(2);
    let (mut worker, book) = worker_with(Some(Inquiry::new(questions)));
    let of = |tgid| {
        move |sample: &mut Sample| {
            sample.task.process.tgid = tgid;
            sample.task.flags = 0;
        }
    };
    let frame = |code| [5 << 56, code, 1];
    let code = |name: &str| Code {
        key: 1,
        name: name.into(),
        file: String::new(),
        first_line: 1,
        lines: None,
    };
    worker.batch(batch(&[], &frame(0x1000), of(1)));
    worker.batch(batch(&[], &frame(0x1000), of(1)));
    worker.batch(batch(&[], &frame(0x1000), of(2)));
    // No room for this one.
    worker.batch(batch(&[], &frame(0x1000), of(3)));
    worker.settle(false);
    assert_eq!(worker.waiting.len(), 4);
    // What is asked for already is not asked for again.
    let asked: Vec<Question> = asked.try_iter().collect();
    let [named, silent] = <[Question; 2]>::try_from(asked).expect("two questions");
    named.answer(|_| Ok(code("f")));
    worker.settle(false);
    assert_eq!(worker.waiting.len(), 2);
    silent.answer(|_| Err(Column::Quarantined));
    worker.settle(true);
    let book = book.open();
    for (column, n) in [
        (Column::Resolved, 2),
        (Column::Quarantined, 1),
        (Column::Unnamed, 1),
    ] {
        assert_eq!(book.ledger.machine.get(column), n, "{column:?}");
    }
}

#[test]
fn the_end_waits_for_answers_that_are_under_way() {
    let (questions, asked) = crossbeam_channel::bounded(2);
    let (mut worker, book) = worker_with(Some(Inquiry::new(questions)));
    let process = |sample: &mut Sample| sample.task.process.tgid = 1;
    worker.batch(batch(&[], &[5 << 56, 0x1000, 1], process));
    // Whoever has the question dies of it.
    let dies = std::thread::spawn(move || {
        let question = asked.recv();
        std::thread::sleep(Duration::from_millis(50));
        drop(question);
    });
    let began = Instant::now();
    worker.settle(true);
    assert!((Duration::from_millis(40)..LAST).contains(&began.elapsed()));
    assert_eq!(book.open().ledger.machine.get(Column::Unnamed), 1);
    dies.join().expect("it ends");
}

/// A sample of a process with one interpreted frame.
fn interpreted(tgid: u32) -> Batch {
    batch(&[], &[5 << 56, 0x1000, 1], |sample| {
        sample.task.process.tgid = tgid;
        sample.task.flags = 0;
    })
}

#[test]
fn only_what_would_fault_is_marked_so() {
    for (why, marked) in [
        (Column::WouldFault, true),
        (Column::SharedPage, true),
        (Column::Unnamed, false),
        (Column::Changed, false),
        (Column::Quarantined, false),
        (Column::NotPermitted, false),
    ] {
        for mark_faults in [true, false] {
            let (questions, asked) = crossbeam_channel::bounded(1);
            let (mut worker, book) = worker_that(Some(Inquiry::new(questions)), mark_faults);
            worker.batch(interpreted(1));
            asked.recv().expect("a question").answer(|_| Err(why));
            worker.settle(true);
            let book = book.open();
            let kept = book.ledger.truncated.get(&End::WouldFault) == Some(&1);
            assert_eq!(kept, marked && mark_faults, "{why:?}");
            let lost = book.ledger.machine.get(why);
            assert_eq!(lost, u64::from(!kept), "{why:?}");
        }
    }
}

#[test]
fn one_process_cannot_use_up_what_others_wait_in() {
    let (mut worker, book) = worker();
    let most = MAX_WAITING / SHARES;
    for _ in 0..most + 10 {
        worker.batch(interpreted(1));
    }
    assert_eq!(worker.waiting.len(), most);
    worker.batch(interpreted(2));
    assert_eq!(worker.waiting.len(), most + 1);
    assert_eq!(book.open().ledger.machine.get(Column::QueueFull), 10);
    // It has room again when those that wait are looked at.
    worker.settle(true);
    worker.batch(interpreted(1));
    assert_eq!(worker.waiting.len(), 1);
}

#[test]
fn what_was_seen_first_is_not_forgotten_for_who_came_too_late() {
    let object = (0x1000, 1);
    let process = ProcessKey::default();
    for (later, said) in [
        (Column::TargetGone, Column::WouldFault),
        (Column::Unnamed, Column::WouldFault),
        (Column::Quarantined, Column::Quarantined),
        (Column::Changed, Column::Changed),
    ] {
        let mut codes = Codes::default();
        assert_eq!(codes.why_unnamed(&process, &[object]), None);
        for why in [Column::WouldFault, later] {
            codes.failed(process, object, why);
        }
        assert_eq!(codes.why_unnamed(&process, &[object]), Some(said));
    }
}
