//! The records of the ring: whatever stands in them, each sample ends in exactly one column.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rprof_ebpf::frame::{Frames, Tag, address, interpreted, native};
use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::record::{
    CodeObject, HEAD_BYTES, ModuleSeen, RecordHeader, RecordKind, Sample, Shared as Record, put,
};
use rprof_profiler::profile::Limits;
use rprof_profiler::sampling::intervals::Intervals;
use rprof_profiler::sampling::live::Live;
use rprof_profiler::sampling::losses::Book;
use rprof_profiler::sampling::ring::{kind_of, module_seen, records, sample_of, worker_of};
use rprof_profiler::sampling::select::Selection;
use rprof_profiler::sampling::stacks::{Shared, Worker};
use rprof_symbolize::module_file;

use crate::engine::fuzz;
use crate::mutate::Seed;

fn header(kind: RecordKind) -> RecordHeader {
    RecordHeader {
        kind: kind as u32,
        cpu: 1,
        sequence: 7,
    }
}

const PROCESS: ProcessKey = ProcessKey {
    tgid: 7,
    exec_id: 1,
    start: 1_000_000,
    mm: 0xffff_8880_0000_1000,
};

/// A record, and behind it what belongs to it.
fn record<T: Record>(value: &T, more: &[u64]) -> Vec<u64> {
    let mut words = vec![0; size_of::<T>() / 8];
    put(value, &mut words);
    words.extend(more);
    words
}

fn sample(kernel: &[u64], user: &[u64]) -> Vec<u64> {
    let mut sample = Sample {
        header: header(RecordKind::Sample),
        kernel_frames: kernel.len() as u32,
        user_words: user.len() as u32,
        ..Sample::default()
    };
    sample.task.process = PROCESS;
    sample.task.comm[..4].copy_from_slice(b"work");
    record(&sample, &[kernel, user].concat())
}

fn worker() -> (Worker, Book) {
    let (forget, _) = crossbeam_channel::bounded(64);
    let shared = Shared {
        profile: Mutex::new(Some(Intervals::new(Limits {
            max_memory: 16 << 20,
            directory: std::env::temp_dir(),
        }))),
        modules: Arc::default(),
        kernel_frames: Some(127),
        mark_faults: false,
        live: Live::default(),
        forget,
        selection: Selection::default(),
    };
    let book = Book::default();
    (
        Worker::new(Arc::new(shared), book.clone(), None, false),
        book,
    )
}

#[test]
fn batches() {
    let kernel = [0xffff_ffff_8100_0040, 0xffff_ffff_8100_2000];
    let user = [
        native(Tag::Native, 3, 0x1234),
        native(Tag::NativeByFramePointer, 3, 0x2234),
        address(Tag::Anonymous, 0x7fff_0000_1234),
        address(Tag::Unlearned, 0x7fff_0000_2234),
        interpreted(1, 17),
        0x7fff_0001_0000,
        0x1234_5678,
        (Tag::LeftOut as u64) << 56,
        address(Tag::Marker, 0x7fff_0000_8000),
    ];
    let object = CodeObject {
        header: header(RecordKind::CodeObject),
        process: PROCESS,
        address: 0x7fff_0001_0000,
        key: 0x1234_5678,
        runtime: 1,
        len: 24,
        ..CodeObject::default()
    };
    let all = [
        sample(&kernel, &user),
        record(&object, &[1, 2, 3]),
        record(&CodeObject { len: 0, ..object }, &[]),
        sample(&kernel, &[]),
        sample(&[], &user[..4]),
    ];
    let mut batch = Vec::new();
    let mut places: Vec<Range<usize>> = Vec::new();
    for record in &all {
        batch.push(record.len() as u64);
        // The record's length, its kind; its figures; what follows.
        let start = batch.len() * 8;
        places.push(start - 8..start + 8);
        places.push(start + 8..start + record.len() * 8);
        batch.extend(record);
        places.push((batch.len() * 8).saturating_sub(128)..batch.len() * 8);
    }
    let seed = Seed {
        bytes: batch.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        places,
        rigid: true,
    };
    fuzz("records::batches", &[seed], |bytes| {
        let words = bytes.as_chunks().0.iter();
        let batch: Vec<u64> = words.copied().map(u64::from_ne_bytes).collect();
        let mut samples = 0;
        for record in records(&batch) {
            if let Some(sample) = sample_of(record) {
                samples += 1;
                assert!(worker_of(&sample.task.process, 3) < 3);
            }
            assert!(Frames(record).count() <= record.len());
        }
        let (mut worker, book) = worker();
        worker.batch(batch);
        worker.settle(true);
        assert_eq!(book.open().ledger.machine.total(), samples);
    });
}

#[test]
fn modules_seen() {
    let path = b"/libc.so.6/x86_64-linux-gnu/lib/usr";
    let seen = ModuleSeen {
        header: header(RecordKind::ModuleSeen),
        process: PROCESS,
        own_tgid: 7,
        path_len: path.len() as u32,
        key: ModuleKey::default(),
        start: 0x7fff_0000_0000,
        end: 0x7fff_0001_0000,
        mount_ns: 1,
        _pad: 0,
        head: [0; HEAD_BYTES / 8],
    };
    let mut bytes: Vec<u8> = record(&seen, &[])
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let end = bytes.len();
    bytes.extend(path);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let seed = Seed {
        places: vec![0..end - HEAD_BYTES, end..bytes.len()],
        bytes,
        rigid: false,
    };
    fuzz("records::modules_seen", &[seed], |bytes| {
        let words = bytes.as_chunks().0.iter();
        let record: Vec<u64> = words.copied().map(u64::from_ne_bytes).collect();
        kind_of(&record);
        if let Some((_, path)) = module_seen(&record) {
            assert!(path.len() <= bytes.len());
            assert!(module_file::path(&path).is_absolute());
        }
    });
}
