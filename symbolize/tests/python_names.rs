//! Names and lines of thousands of code objects, read by plan out of live interpreters, against what
//! each interpreter says itself.

mod python_target;

use python_target::{Target, interpreters};
use rprof_ebpf::runtimes::python::PythonInterpreter;
use rprof_symbolize::reads::{ReadError, execute};
use rprof_symbolize::runtimes::Code;

fn text(hex: &str) -> String {
    let digits = hex.trim_matches('-').as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    String::from_utf8(digits.chunks(2).map(byte).collect()).unwrap()
}

fn check(interpreter: &std::path::Path, arguments: &[&str]) {
    let mut target = Target::start(interpreter, arguments, "code.py");
    let detected = &target.detected;
    let (mut lines, mut cut, mut none) = (0, 0, 0);
    for said in &target.said {
        let [address, first, name, file, expected] =
            said.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap();
        let fields = execute(&detected.plan, &mut target.memory, address).unwrap();
        assert_eq!(fields.len() % 8, 0);
        let code: Code = detected.decode(&fields).unwrap();
        assert_eq!(code.name, text(name));
        assert_eq!(code.file, text(file), "{}", code.name);
        assert_eq!(code.first_line.to_string(), first, "{}", code.name);
        if expected == "cut" {
            assert_eq!(code.lines, None, "{}", code.name);
            assert_eq!(code.line(0), None);
            cut += 1;
            continue;
        }
        let expected: Vec<Option<u32>> = expected.split(',').map(|l| l.parse().ok()).collect();
        for (position, &line) in (0..).zip(&expected) {
            let got = code.line(position);
            assert_eq!(got, line, "{} in {} at {position}", code.name, code.file);
        }
        assert_eq!(code.line(expected.len() as u32), None, "{}", code.name);
        lines += expected.len();
        none += expected.iter().filter(|l| l.is_none()).count();
    }
    let codes = target.said.len();
    println!(
        "{interpreter:?} {arguments:?}: {codes} code objects, {lines} instructions ({none} without a line), {cut} tables cut"
    );
    assert!(codes > 2000 && cut >= 1 && none > 0);

    // What is no code object: the type of code objects, and nothing at all.
    let python: &PythonInterpreter = target.detected.interpreter.layout().unwrap();
    let no_code = python.symbols[1] + target.bias;
    assert!(execute(&target.detected.plan, &mut target.memory, no_code).is_err());
    let nowhere = execute(&target.detected.plan, &mut target.memory, 64);
    assert_eq!(nowhere, Err(ReadError::BadAddress));
    let beyond = execute(&target.detected.plan, &mut target.memory, u64::MAX - 8);
    assert_eq!(beyond, Err(ReadError::BadAddress));
}

#[test]
fn names_and_lines_are_the_interpreters_own() {
    let all = interpreters("3.11");
    assert!(!all.is_empty(), "no python3.11 on this machine");
    for interpreter in &all {
        check(interpreter, &[]);
        // Tables without columns have another form.
        check(interpreter, &["-X", "no_debug_ranges"]);
    }
}
