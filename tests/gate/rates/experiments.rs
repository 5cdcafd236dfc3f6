//! Experiments side by side on all cores, what they came to, and how sure a rate is.

use rprof_profiler::gate::statistics::verdict::Verdict;

/// Verdicts of many experiments, and how many runs they took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdicts {
    counts: [u64; 3],
    runs: u64,
}

impl Verdicts {
    pub(crate) fn add(&mut self, verdict: Verdict, runs: usize) {
        self.counts[verdict as usize] += 1;
        self.runs += runs as u64;
    }

    pub(crate) fn count(&self, of: Verdict) -> u64 {
        self.counts[of as usize]
    }

    pub(crate) fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Runs of both sides, on average.
    pub(crate) fn runs(&self) -> f64 {
        self.runs as f64 / self.all().max(1) as f64
    }

    /// "passed / regressed / inconclusive", in percent.
    pub(crate) fn shares(&self) -> String {
        let of = |of| percent(self.count(of), self.all());
        format!(
            "{} / {} / {}",
            of(Verdict::Passed),
            of(Verdict::Regressed),
            of(Verdict::Inconclusive)
        )
    }
}

/// Sums of something that is counted.
pub(crate) trait Sum: Default + Send {
    fn sum(&mut self, other: Self);
}

impl Sum for Verdicts {
    fn sum(&mut self, other: Self) {
        let both = self.counts.iter_mut().zip(other.counts);
        both.for_each(|(sum, count)| *sum += count);
        self.runs += other.runs;
    }
}

impl<const N: usize> Sum for [u64; N]
where
    Self: Default,
{
    fn sum(&mut self, other: Self) {
        let both = self.iter_mut().zip(other);
        both.for_each(|(sum, count)| *sum += count);
    }
}

/// The sum of experiments 0 to `many` - 1.
pub(crate) fn each<S: Sum>(many: u64, one: impl Fn(u64, &mut S) + Sync) -> S {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let of_core = |core: u64| {
        let mut sum = S::default();
        (core..many)
            .step_by(cores as usize)
            .for_each(|n| one(n, &mut sum));
        sum
    };
    std::thread::scope(|scope| {
        let of_core = &of_core;
        let threads: Vec<_> = (0..cores)
            .map(|core| scope.spawn(move || of_core(core)))
            .collect();
        let mut sum = S::default();
        for thread in threads {
            sum.sum(thread.join().expect("no panic"));
        }
        sum
    })
}

/// A share, in percent.
pub(crate) fn percent(of: u64, all: u64) -> String {
    format!("{:.1}", 100.0 * of as f64 / all.max(1) as f64)
}

/// The rate below which the true one is with 95 %, if so many of all were seen (Clopper and Pearson, one-sided).
pub(crate) fn upper_bound(of: u64, all: u64) -> f64 {
    if of >= all {
        return 1.0;
    }
    // The rate of which so few would be seen in 5 % of cases.
    let (mut low, mut high) = (of as f64 / all as f64, 1.0);
    for _ in 0..60 {
        let rate = (low + high) / 2.0;
        match at_most(of, all, rate) > 0.05 {
            true => low = rate,
            false => high = rate,
        }
    }
    high
}

/// How likely at most `of` out of `all` are, each with this chance.
fn at_most(of: u64, all: u64, chance: f64) -> f64 {
    if chance >= 1.0 {
        return 0.0;
    }
    let mut logarithm = all as f64 * (-chance).ln_1p();
    let mut sum = logarithm.exp();
    for n in 0..of {
        logarithm += ((all - n) as f64 / (n + 1) as f64).ln() + (chance / (1.0 - chance)).ln();
        sum += logarithm.exp();
    }
    sum
}

/// Panics where the bound is not what tables say.
pub(crate) fn check() {
    // 3 / n, the rule of three, is an upper bound of 1 - 0.05^(1/n); 7 of 50 is from Clopper and Pearson's intervals.
    assert!((upper_bound(0, 10_000) - 2.9953e-4).abs() < 1e-7);
    assert!(
        (upper_bound(7, 50) - 0.2464).abs() < 1e-3,
        "{}",
        upper_bound(7, 50)
    );
}
