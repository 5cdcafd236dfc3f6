//! A plan carried out in a process that runs on: code objects are freed and their memory is used
//! again while we read. A name that is given must be of one object.

mod python_target;

use std::time::{Duration, Instant};

use python_target::{Target, interpreters};
use rprof_symbolize::reads::{ReadError, execute};

#[test]
fn no_name_is_made_of_two_objects() {
    let all = interpreters("3.11");
    assert!(!all.is_empty(), "no python3.11 on this machine");
    for interpreter in &all {
        let mut target = Target::start(interpreter, &[], "churn.py");
        let address = |line: &String| u64::from_str_radix(&line[2..], 16).unwrap();
        let addresses: Vec<u64> = target.said.iter().map(address).collect();
        target.go_on();
        let (mut named, mut changed, mut other) = (0, 0, 0);
        let end = Instant::now() + Duration::from_millis(700);
        while Instant::now() < end {
            for &address in &addresses {
                let fields = execute(&target.detected.plan, &mut target.memory, address);
                match fields.map(|fields| target.detected.decode(&fields)) {
                    Ok(Ok(code)) => {
                        let Some(n) = code.name.strip_prefix("name_") else {
                            continue;
                        };
                        let whole = (code.file.as_str(), code.first_line.to_string());
                        let file = format!("file_{n}");
                        assert_eq!(whole, (file.as_str(), n.to_owned()), "{code:?}");
                        named += 1;
                    }
                    Err(ReadError::Changed) => changed += 1,
                    _ => other += 1,
                }
            }
        }
        println!("{interpreter:?}: {named} named, {changed} changed, {other} other errors");
        assert!(named > 0 && changed > 0);
    }
}
