//! rprof
fn main() {}
