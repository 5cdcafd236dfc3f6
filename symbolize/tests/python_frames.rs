//! The layout that the eBPF side walks with, field by field, on live interpreters that know their
//! own frames and threads.

mod python_target;

use std::collections::BTreeSet;

use python_target::{Memory, Target, interpreters};
use rprof_ebpf::runtimes::python::{PythonInterpreter, PythonLayout, code_key, symbols};
use rprof_symbolize::reads::execute;

fn hex(word: &str) -> u64 {
    u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap()
}

/// Thread states of all interpreters.
fn threads(memory: &mut Memory, layout: &PythonLayout, runtime: u64) -> Vec<u64> {
    let mut interpreter = memory.word(runtime + u64::from(layout.runtime_interpreters));
    let mut all = Vec::new();
    while interpreter != 0 {
        let mut thread = memory.word(interpreter + u64::from(layout.interp_threads));
        while thread != 0 {
            all.push(thread);
            assert!(all.len() < 100, "states in a circle");
            thread = memory.word(thread + u64::from(layout.thread_next));
        }
        interpreter = memory.word(interpreter + u64::from(layout.interp_next));
    }
    all
}

#[test]
fn frames_and_threads_are_the_interpreters_own() {
    let all = interpreters("3.11");
    assert!(!all.is_empty(), "no python3.11 on this machine");
    for interpreter in &all {
        let mut target = Target::start(interpreter, &[], "frames.py");
        let python: &PythonInterpreter = target.detected.interpreter.layout().unwrap();
        let l = python.layout;
        let plan = target.detected.plan;
        let runtime = python.symbols[symbols::RUNTIME] + target.bias;
        let code_type = python.symbols[symbols::CODE_TYPE] + target.bias;
        let m = &mut target.memory;
        let at = |base: u64, offset: u32| base + u64::from(offset);
        let said = |kind: &str| -> Vec<Vec<&str>> {
            let lines = target.said.iter().filter_map(|l| l.strip_prefix(kind));
            lines.map(|l| l.split(' ').collect()).collect()
        };

        let threads = threads(m, &l, runtime);
        let found: BTreeSet<_> = threads
            .iter()
            .map(|&t| [l.thread_id, l.thread_native_id].map(|id| m.word(at(t, id))))
            .collect();
        let expected: BTreeSet<_> = said("thread ")
            .iter()
            .map(|w| [hex(w[0]), w[1].parse().unwrap()])
            .collect();
        assert_eq!(expected.len(), 4);
        assert_eq!(found, expected);
        // A sub-interpreter's state has the ids of the thread that made it.
        assert_eq!(threads.len(), 5);

        let main = hex(said("main ")[0][0]);
        let is_main = |t: &u64| m.word(at(*t, l.thread_id)) == main;
        let mains: Vec<_> = threads.iter().copied().filter(is_main).collect();
        assert_eq!(mains.len(), 2);
        // Of the two, the one that runs has its marker on the stack, not in its own state.
        let markers = mains.iter().map(|&t| (t, m.word(at(t, l.thread_cframe))));
        let running: Vec<_> = markers.filter(|(t, c)| c.abs_diff(*t) > 4096).collect();
        assert_eq!(running.len(), 1);
        let (current, mut marker) = running[0];
        assert_eq!(m.word(at(runtime, l.runtime_current)), current);
        let mut frame = m.word(at(marker, l.cframe_current));
        let frames = said("frame ");
        assert_eq!(frames.len(), 9);
        for (n, words) in frames.iter().enumerate() {
            let code = m.word(at(frame, l.frame_code));
            assert_eq!(code, hex(words[0]), "frame {n}");
            assert_eq!(m.word(at(code, l.object_type)), code_type);
            let position = (m.word(at(frame, l.frame_instr)) - at(code, l.code_instructions)) / 2;
            if words[1] != "-" {
                assert_eq!(position.to_string(), words[1], "frame {n}");
            }
            let entry = m.word(at(frame, l.frame_is_entry)) as u8;
            let owner = m.word(at(frame, l.frame_owner)) as u8;
            assert_eq!(
                [entry, owner].map(|b| b.to_string()),
                words[2..4],
                "frame {n}"
            );
            let traceable = m.word(at(code, l.code_first_traceable)) as u32;
            assert_eq!(traceable.to_string(), words[4], "frame {n}");
            let fields = execute(&plan, m, code).unwrap();
            let name = m.word(at(code, l.code_name));
            let hash = m.word(at(name, l.text_hash));
            assert_ne!(hash, u64::MAX, "names are interned");
            let key = code_key(
                m.word(at(code, l.code_first_line)) as u32,
                m.word(at(code, l.code_filename)),
                m.word(at(code, l.code_qualname)),
                m.word(at(code, l.code_linetable)),
                hash,
            );
            assert_eq!(target.detected.decode(&fields).unwrap().key, key);
            frame = m.word(at(frame, l.frame_previous));
            // An entry frame ends an activation: the one before began where its marker says.
            if entry == 1 {
                let previous = m.word(at(marker, l.cframe_previous));
                assert!(
                    previous > marker || frame == 0,
                    "markers stand towards the root"
                );
                marker = previous;
                assert_eq!(m.word(at(marker, l.cframe_current)), frame, "frame {n}");
            }
        }
        // The last marker is the thread state's own, of no activation.
        assert_eq!(frame, 0);
        assert_eq!(m.word(at(marker, l.cframe_previous)), 0);
        println!(
            "{interpreter:?}: {} frames, {} threads",
            frames.len(),
            threads.len()
        );
    }
}
