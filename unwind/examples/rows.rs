//! Prints how long the rows of files take and what they come to:
//! `cargo run --release -p rprof-unwind --example rows -- FILE…`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::time::Instant;

use object::read::ReadCache;
use rprof_unwind::Table;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let mut best = f64::MAX;
        let mut encoded = f64::MAX;
        let mut found = None;
        for _ in 0..5 {
            let start = Instant::now();
            let cache = ReadCache::new(File::open(&path)?);
            let table = Table::from_elf(&cache, u32::MAX)?;
            best = best.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let image = table.encode(0);
            encoded = encoded.min(start.elapsed().as_secs_f64());
            found = Some((table, image));
        }
        let Some((table, image)) = found else {
            continue;
        };
        // By kind and register (DWARF number).
        let mut kinds = BTreeMap::<(u8, u8), usize>::new();
        for (_, rule) in table.iter() {
            *kinds.entry((rule.kind, rule.register)).or_default() += 1;
        }
        println!(
            "{path}: {} rows, {} rules, kinds {kinds:?}; rows {:.1} ms, encoding {:.1} ms; \
             {} words (at most {}), {:.2} bytes a row",
            table.iter().len(),
            table.rules().len(),
            best * 1e3,
            encoded * 1e3,
            image.words.len(),
            table.words(),
            image.words.len() as f64 * 4.0 / table.iter().len() as f64,
        );
    }
    Ok(())
}
