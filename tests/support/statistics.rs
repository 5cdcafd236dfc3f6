//! How far a sampled figure may be from the true one.
//!
//! A share p of n independent samples has the standard error √(p(1−p)/n). The sampler's ticks are
//! not independent but spread more evenly, so this is an upper bound of it. At 4 standard errors
//! one comparison in 16,000 fails by chance.

/// Standard errors that are allowed.
pub const SIGMAS: f64 = 4.0;

/// How far the share `p` (0 to 1) that `n` samples show may be from the truth.
pub fn share_bound(p: f64, n: u64) -> f64 {
    // Where p is next to 0 or 1 the formula says 0; one sample more or less is always possible.
    let n = n.max(1) as f64;
    SIGMAS * (p * (1.0 - p) / n).sqrt() + 1.0 / n
}

/// How far a count whose expectation is `expected` may be from it: CPU time that starts and stops
/// at random against ticks. √n is what independent ticks would give.
pub fn count_bound(expected: f64) -> f64 {
    SIGMAS * expected.max(1.0).sqrt()
}

/// Numbers by chance from a fixed seed, the same on each run (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    /// From 0 to `below` − 1.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}
