//! Many functions at once: of thousands some have always grown by chance. What is asked of each is how often chance
//! would make as much of any of them (the maximum statistic of Westfall and Young).

use std::num::NonZero;

use super::design::{Design, Exchanges, Side};

/// Columns that are looked at together: they stay in the cache nearest to a core.
const TOGETHER: usize = 1024;
/// What a figure is off at most, in upper quartiles of what all are: of normal noise 2.3 deviations.
const FAR: f64 = 2.0;

/// Head minus base of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// In the column's own unit.
    pub by: f64,
    /// How often chance makes as much of any column, up or down: 1 says nothing, 0.001 much.
    pub p: f64,
}

/// What became of each column, whose figures follow the order of runs.
pub fn growths(design: &Design, exchanges: &Exchanges, columns: &[Vec<f64>]) -> Vec<Growth> {
    let centred: Vec<Option<Vec<f32>>> = columns.iter().map(|c| centred(design, c)).collect();
    let known: Vec<&[f32]> = centred.iter().flatten().map(Vec::as_slice).collect();
    let most = most_of_each(exchanges, &known, design.runs());
    let mut sorted = most.clone();
    sorted.sort_by(f32::total_cmp);
    let weights = design.weights();
    let first: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    columns
        .iter()
        .zip(&centred)
        .map(|(column, centred)| {
            let by = weights
                .iter()
                .zip(column)
                .map(|(w, x)| w * finite(*x))
                .sum();
            let Some(centred) = centred else {
                return Growth { by, p: 1.0 };
            };
            let made: f32 = first.iter().zip(centred).map(|(w, x)| w * x).sum();
            // Sums of the same numbers in another order differ in the last places.
            let least = made.abs() * (1.0 - 1e-5);
            let as_much = sorted.len() - sorted.partition_point(|&most| most < least);
            Growth {
                by,
                p: as_much as f64 / sorted.len().max(1) as f64,
            }
        })
        .collect()
}

/// A column less the mean of each block, in units of what it varies by, where a run that is far off is only so far
/// off; it does not know sides. `None`: it does not vary.
fn centred(design: &Design, column: &[f64]) -> Option<Vec<f32>> {
    let mut centred = vec![0.0; column.len()];
    let mut largest = 0.0f64;
    for block in design.blocks() {
        for &n in block {
            centred[n] = finite(column[n]);
            largest = largest.max(centred[n].abs());
        }
        let middle = middle(block.iter().map(|&n| centred[n]).collect());
        block.iter().for_each(|&n| centred[n] -= middle);
    }
    clip(design, &mut centred);
    let mut squares = 0.0;
    for block in design.blocks() {
        let mean = block.iter().map(|&n| centred[n]).sum::<f64>() / block.len() as f64;
        for &n in block {
            centred[n] -= mean;
            squares += centred[n] * centred[n];
        }
    }
    let varies = squares.sqrt();
    (varies > 1e-9 * largest).then(|| centred.iter().map(|x| (x / varies) as f32).collect())
}

/// Makes what is far off only so far off. Were all of the side that has fewer runs off by a change, half of them
/// would still be nearer than what deviations are counted in: it is not taken for chance.
fn clip(design: &Design, centred: &mut [f64]) {
    let mut sizes: Vec<f64> = design
        .blocks()
        .flatten()
        .map(|&n| centred[n].abs())
        .collect();
    let heads = (design.sides().iter()).filter(|side| **side == Side::Head);
    let heads = heads.count() as f64 / design.runs().max(1) as f64;
    let near = 1.0 - heads.min(1.0 - heads) / 2.0;
    let at = ((near * sizes.len() as f64) as usize).min(sizes.len().saturating_sub(1));
    if sizes.is_empty() {
        return;
    }
    let far = FAR * *sizes.select_nth_unstable_by(at, f64::total_cmp).1;
    if far > 0.0 {
        centred.iter_mut().for_each(|x| *x = x.clamp(-far, far));
    }
}

/// The middle of some, or the mean of the two that are.
fn middle(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    match of.len() {
        0 => 0.0,
        n => (of[(n - 1) / 2] + of[n / 2]) / 2.0,
    }
}

/// Nothing is more than so much: sums of its squares are still numbers.
fn finite(figure: f64) -> f64 {
    if figure.is_nan() {
        0.0
    } else {
        figure.clamp(-1e100, 1e100)
    }
}

/// For each exchange the most that it makes of any column.
fn most_of_each(exchanges: &Exchanges, columns: &[&[f32]], runs: usize) -> Vec<f32> {
    // By run, so that what is added up lies side by side.
    let by_run: Vec<f32> = columns
        .chunks(TOGETHER)
        .flat_map(|columns| (0..runs).flat_map(|run| columns.iter().map(move |c| c[run])))
        .collect();
    let rows: Vec<&[f32]> = exchanges.rows().collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let each = rows.len().div_ceil(cores).max(1);
    let mut most = vec![0.0f32; rows.len()];
    std::thread::scope(|scope| {
        for (rows, most) in rows.chunks(each).zip(most.chunks_mut(each)) {
            let by_run = &by_run;
            scope.spawn(move || {
                let mut sums = vec![0.0f32; TOGETHER];
                for (row, most) in rows.iter().zip(most) {
                    let mut rest = by_run.as_slice();
                    while !rest.is_empty() {
                        let width = (rest.len() / runs).min(TOGETHER);
                        let (part, after) = rest.split_at(width * runs);
                        *most = most.max(largest(row, part, &mut sums[..width]));
                        rest = after;
                    }
                }
            });
        }
    });
    most
}

/// The largest sum, up or down, of some columns by run.
fn largest(row: &[f32], by_run: &[f32], sums: &mut [f32]) -> f32 {
    sums.fill(0.0);
    for (&weight, figures) in row.iter().zip(by_run.chunks_exact(sums.len())) {
        if weight != 0.0 {
            let both = sums.iter_mut().zip(figures);
            both.for_each(|(sum, figure)| *sum += weight * figure);
        }
    }
    sums.iter().fold(0.0, |most, sum| most.max(sum.abs()))
}

#[cfg(test)]
mod tests {
    use super::super::design::Side::{Base, Head};
    use super::*;

    fn design() -> Design {
        let block = |n| [(Base, n), (Head, n), (Head, n), (Base, n)];
        let runs: Vec<_> = (0..5).flat_map(block).collect();
        Design::new(&runs).unwrap()
    }

    /// Numbers between -1 and 1 of no meaning.
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
        })
    }

    #[test]
    fn the_one_that_grew() {
        let design = design();
        let exchanges = design.exchanges(10_000, 1);
        let mut columns: Vec<Vec<f64>> = (0..3000)
            .map(|n| noise(n + 1).skip(5).take(20).map(|x| 100.0 + x).collect())
            .collect();
        for (figure, side) in columns[77].iter_mut().zip(design.sides()) {
            *figure += if *side == Head { 5.0 } else { 0.0 };
        }
        columns.push(vec![3.0; 20]);
        let grown = growths(&design, &exchanges, &columns);
        assert!(
            (4.0..6.0).contains(&grown[77].by) && grown[77].p < 0.001,
            "{:?}",
            grown[77]
        );
        assert!(grown.iter().enumerate().all(|(n, g)| n == 77 || g.p > 0.01));
        assert_eq!(grown[3000], Growth { by: 0.0, p: 1.0 });
    }

    #[test]
    fn a_run_that_is_far_off_in_all_columns_hides_nothing() {
        let block = |n| [(Base, n), (Head, n), (Head, n), (Base, n)];
        let runs: Vec<_> = (0..10).flat_map(block).collect();
        let design = Design::new(&runs).unwrap();
        let exchanges = design.exchanges(10_000, 1);
        let mut columns: Vec<Vec<f64>> = (0..300)
            .map(|n| noise(n + 1).skip(5).take(40).map(|x| 100.0 + x).collect())
            .collect();
        columns.iter_mut().for_each(|column| column[4] += 60.0);
        for (figure, side) in columns[77].iter_mut().zip(design.sides()) {
            *figure += if *side == Head { 5.0 } else { 0.0 };
        }
        let grown = growths(&design, &exchanges, &columns);
        assert!(grown[77].p < 0.01, "{:?}", grown[77]);
        assert!(grown.iter().enumerate().all(|(n, g)| n == 77 || g.p > 0.01));
    }

    #[test]
    fn all_of_the_smaller_side_is_not_far_off() {
        let sides = [vec![(Base, 0); 5], vec![(Head, 0); 9]].concat();
        let design = Design::new(&sides).unwrap();
        let exchanges = design.exchanges(10_000, 1);
        let mut column: Vec<f64> = noise(3).skip(5).take(14).collect();
        column[..5].iter_mut().for_each(|figure| *figure += 100.0);
        let centred = centred(&design, &column).unwrap();
        let ratio = centred[..5].iter().sum::<f32>() / centred[5..].iter().sum::<f32>();
        assert!((ratio + 1.0).abs() < 1e-3);
        let spread = centred[..5].iter().fold(0.0f32, |most, x| most.max(*x))
            - centred[5..].iter().fold(0.0f32, |least, x| least.min(*x));
        // A step of 100 with noise of 1: nothing of it was taken.
        assert!((0.5..0.6).contains(&spread), "{spread}");
        assert!(growths(&design, &exchanges, &[column])[0].p < 0.001);
    }

    #[test]
    fn no_figure_is_too_strange() {
        let design = design();
        let exchanges = design.exchanges(1000, 1);
        let strange = [0.0, f64::MAX, f64::NEG_INFINITY, f64::NAN, 1e300, -1.0];
        let columns: Vec<Vec<f64>> = (1..40)
            .map(|n| (0..20).map(|run| strange[run * n % (n % 6 + 1)]).collect())
            .collect();
        for growth in growths(&design, &exchanges, &columns) {
            assert!(growth.by.is_finite() && growth.p.is_finite(), "{growth:?}");
        }
        assert!(growths(&design, &exchanges, &[]).is_empty());
    }

    #[test]
    #[ignore = "for people to read"]
    fn how_long_it_takes() {
        let block = |n| [(Base, n), (Head, n), (Head, n), (Base, n)];
        let runs: Vec<_> = (0..10).flat_map(block).collect();
        let design = Design::new(&runs).unwrap();
        let columns: Vec<Vec<f64>> = (0..10_000)
            .map(|n| noise(n + 1).skip(5).take(40).map(|x| 100.0 + x).collect())
            .collect();
        let begun = std::time::Instant::now();
        let exchanges = design.exchanges(10_000, 1);
        println!("exchanges {:?}", begun.elapsed());
        growths(&design, &exchanges, &columns);
        println!("and 10,000 columns {:?}", begun.elapsed());
        let runs: Vec<_> = (runs.iter().zip(noise(3)))
            .map(|(&(side, block), noise)| (side, block, 1e9 * (1.0 + 0.02 * noise)))
            .collect();
        let together: Vec<_> = runs
            .iter()
            .map(|&(side, _, cost)| (side, 0, cost))
            .collect();
        for (runs, looks) in [
            (&runs, vec![]),
            (&runs, (3..10).map(|n| 4 * n).collect()),
            (&together, vec![]),
        ] {
            let begun = std::time::Instant::now();
            super::super::verdict::judge(runs, &looks, 40, &Default::default(), 1);
            println!("judged at {} looks {:?}", 1 + looks.len(), begun.elapsed());
        }
    }
}
