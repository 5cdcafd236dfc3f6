//! What runs of two sides say of each other. The **run** is the unit, not the sample: samples of one run share
//! its luck.

pub mod change;
pub mod contrast;
pub mod design;
pub mod looks;
pub mod many;
pub mod more;
pub mod power;
pub mod series;
pub mod verdict;
pub mod watch;
