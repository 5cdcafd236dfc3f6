//! Microseconds of one vector read of the read ladder, the look at the pagemap included: the example
//! `ladder` of `symbolize/`. Where the kernel lacks the flags that keep it from waiting, the same call
//! without them, on a child of the example: a row of its own.

use super::Bench;
use super::agent::Agent;
use super::table::Row;
use crate::Outcome;

const PIECES: [&str; 3] = ["; 1 pieces ", "; 8 pieces ", "; 64 pieces "];
const NOWAIT: [Row; 3] = [
    Row::plain("ladder, µs a read of 1 piece"),
    Row::plain("ladder, µs a read of 8 pieces"),
    Row::at_most("ladder, µs a read of 64 pieces", 30.0),
];
const PLAIN: [Row; 3] = [
    Row::plain("ladder, µs a read of 1 piece, flags missing, own child"),
    Row::plain("ladder, µs a read of 8 pieces, flags missing, own child"),
    Row::at_most(
        "ladder, µs a read of 64 pieces, flags missing, own child",
        30.0,
    ),
];

pub(super) fn run(bench: &mut Bench) -> Outcome {
    // `flags no; 1 pieces 1.40 µs; 8 pieces …`
    let (said, weather) = bench.example("rprof-symbolize", "ladder", &[])?;
    let rows = match said.starts_with("flags yes") {
        true => NOWAIT,
        false => PLAIN,
    };
    for (row, pieces) in rows.into_iter().zip(PIECES) {
        let rest = said.split_once(pieces).map_or("", |(_, rest)| rest);
        let micros = rest.split(' ').next().and_then(|n| n.parse().ok());
        let micros = micros.ok_or_else(|| format!("the example said {said:?}"))?;
        bench.add(row, Agent::Rprof, micros, weather);
    }
    Ok(())
}
