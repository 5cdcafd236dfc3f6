//! The executor of read plans on memory that is made up: what it asks for and when, what it makes of
//! objects that change, of lengths that lie, and of bytes that are no object.

use std::collections::HashMap;

use rprof_ebpf::plan::{Op, Plan, Step, TextForm};
use rprof_symbolize::reads::{Piece, ReadError, Reads, execute};

const OBJECT: u64 = 0x1000;
const STRING: u64 = 0x2000;
const TABLE: u64 = 0x3000;

/// An object: word 1 mutable, words 2 and 3 a string and a table. String and table: length at 16,
/// then a state word at 24, characters at 32 or 40.
fn plan() -> Plan {
    let step = |op: Op, base, into, offset, len| Step {
        op: op as u8,
        base,
        into,
        offset,
        len,
        len_at: 16,
        ..Step::default()
    };
    let steps = [
        step(Op::Pointer, 0, 1, 16, 0),
        step(Op::Pointer, 0, 2, 24, 0),
        step(Op::Bytes, 0, 0, 16, 16),
        step(Op::Text, 1, 0, 0, 8),
        step(Op::Counted, 2, 0, 32, 16),
    ];
    let mut plan = Plan {
        len: steps.len() as u32,
        ..Plan::default()
    };
    plan.steps[..steps.len()].copy_from_slice(&steps);
    plan.texts[0] = TextForm {
        len_at: 16,
        state_at: 24,
        ascii_at: 32,
        compact_at: 40,
    };
    plan
}

/// Words by address. Each call is noted; before the given call a word changes.
#[derive(Default)]
struct Words {
    words: HashMap<u64, u64>,
    calls: Vec<Vec<u64>>,
    change: Option<(usize, u64)>,
}

impl Words {
    fn new(characters: u64, state: u64, table: u64) -> Self {
        let mut words = Self::default();
        words.put(OBJECT, &[7, 1, STRING, TABLE]);
        words.put(
            STRING,
            &[0, 0, characters, state, u64::from_le_bytes(*b"asciitex")],
        );
        words.put(STRING + 40, &[u64::from_le_bytes(*b"w i d e ")]);
        words.put(TABLE, &[0, 0, table, 0, 0x0102, 0x0304, 0x0506]);
        words
    }

    fn put(&mut self, address: u64, words: &[u64]) {
        self.words
            .extend((address..).step_by(8).zip(words.iter().copied()));
    }
}

impl Reads for Words {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        if let Some((_, address)) = self.change.take_if(|(call, _)| *call == self.calls.len()) {
            *self.words.get_mut(&address).unwrap() += 8;
        }
        self.calls.push(pieces.iter().map(|p| p.address).collect());
        for piece in pieces.iter_mut() {
            let bytes = piece.buffer.chunks_mut(8).zip((piece.address..).step_by(8));
            piece.result = Ok(());
            for (bytes, address) in bytes {
                match self.words.get(&address) {
                    Some(word) => bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]),
                    None => piece.result = Err(ReadError::WouldFault),
                }
            }
        }
        pieces.iter().try_for_each(|p| p.result)
    }
}

fn header(len: u32, width: u8, cut: u8) -> [u8; 8] {
    let [a, b, c, d] = len.to_le_bytes();
    [a, b, c, d, width, cut, 0, 0]
}

/// PEP 393: a compact string of 1-byte characters, ASCII or not.
const ASCII: u64 = 1 << 2 | 1 << 5 | 1 << 6;
const LATIN: u64 = 1 << 2 | 1 << 5;
const WIDE: u64 = 2 << 2 | 1 << 5;

fn fields(text: ([u8; 8], &[u8; 8]), table: ([u8; 8], &[u8])) -> Vec<u8> {
    [
        &header(16, 1, 0),
        &STRING.to_le_bytes()[..],
        &TABLE.to_le_bytes(),
        &text.0,
        text.1,
        &table.0,
        table.1,
    ]
    .concat()
}

#[test]
fn four_calls_and_the_object_last() {
    let mut words = Words::new(5, ASCII, 10);
    let got = execute(&plan(), &mut words, OBJECT).unwrap();
    let table = [0x02, 1, 0, 0, 0, 0, 0, 0, 0x04, 3, 0, 0, 0, 0, 0, 0];
    let expected = fields(
        (header(5, 1, 0), b"ascii\0\0\0"),
        (header(10, 1, 0), &table),
    );
    assert_eq!(got, expected);
    let head = OBJECT + 16;
    assert_eq!(
        words.calls,
        [
            vec![head],
            vec![STRING + 16, TABLE + 16],
            vec![STRING + 32, TABLE + 32, head],
            vec![head]
        ]
    );
}

#[test]
fn long_fields_are_cut_as_the_program_cuts_them() {
    let cut = |characters, state, table| {
        execute(&plan(), &mut Words::new(characters, state, table), OBJECT).unwrap()
    };
    // Text keeps its beginning, whole characters of it; a counted field is left out.
    let none = (header(0, 1, 1), &[][..]);
    assert_eq!(
        cut(9, ASCII, 17),
        fields((header(8, 1, 1), b"asciitex"), none)
    );
    assert_eq!(
        cut(8, LATIN, 17),
        fields((header(8, 1, 0), b"w i d e "), none)
    );
    assert_eq!(
        cut(5, WIDE, u64::MAX),
        fields((header(8, 2, 1), b"w i d e "), none)
    );
    assert_eq!(
        cut(u64::MAX, WIDE, 17),
        fields((header(8, 2, 1), b"w i d e "), none)
    );
    let empty = execute(&plan(), &mut Words::new(0, ASCII, 0), OBJECT).unwrap();
    assert_eq!(empty.len(), 8 + 16 + 8 + 8);
}

#[test]
fn an_object_that_changes_is_noticed() {
    for word in [OBJECT + 16, OBJECT + 24] {
        let mut words = Words::new(5, ASCII, 10);
        words.change = Some((2, word));
        assert_eq!(
            execute(&plan(), &mut words, OBJECT),
            Err(ReadError::Changed)
        );
    }
    // What is not of the head may change.
    let mut words = Words::new(5, ASCII, 10);
    words.change = Some((2, OBJECT + 8));
    assert!(execute(&plan(), &mut words, OBJECT).is_ok());
}

/// Freed memory keeps its bytes behind the first word: zero, or the next free block.
#[test]
fn an_object_that_is_freed_is_noticed() {
    let mut plan = plan();
    plan.counted = 1;
    let count = |references, change| {
        let mut words = Words::new(5, ASCII, 10);
        words.put(OBJECT, &[references]);
        words.change = change;
        execute(&plan, &mut words, OBJECT).map(|fields| fields.len())
    };
    assert_eq!(count(1, None), Ok(64));
    assert_eq!(count(1, Some((2, OBJECT))), Ok(64));
    for free in [0, 0x7f12_3456_7890, u64::MAX - 8] {
        assert_eq!(count(free, None), Err(ReadError::Changed));
    }
    // Alive at first, freed (u64::MAX + 1) before the last read.
    let last = Some((2, OBJECT));
    assert_eq!(count((1 << 40) - 7, last), Err(ReadError::Changed));
}

#[test]
fn what_is_no_string_is_refused() {
    for state in [
        0,
        1 << 5,
        3 << 2 | 1 << 5,
        7 << 2 | 1 << 5,
        1 << 2,
        u64::MAX,
    ] {
        let got = execute(&plan(), &mut Words::new(5, state, 10), OBJECT);
        assert_eq!(got, Err(ReadError::BadAddress), "{state:#x}");
    }
}

#[test]
fn a_page_that_is_missing_says_so() {
    let mut words = Words::new(5, ASCII, 10);
    words.words.remove(&(TABLE + 32));
    assert_eq!(
        execute(&plan(), &mut words, OBJECT),
        Err(ReadError::WouldFault)
    );
    assert_eq!(
        execute(&plan(), &mut words, u64::MAX - 8),
        Err(ReadError::BadAddress)
    );
}

#[test]
fn a_wrong_plan_ends() {
    let good = plan();
    let wrong = |change: fn(&mut Plan)| {
        let mut plan = good;
        change(&mut plan);
        let got = execute(&plan, &mut Words::new(5, ASCII, 10), OBJECT);
        assert_eq!(got, Err(ReadError::BadPlan), "{:?}", &plan.steps[..5]);
    };
    wrong(|p| p.len = 17);
    wrong(|p| p.len = 0);
    wrong(|p| p.steps[0].op = 9);
    wrong(|p| p.steps[1].into = 1);
    wrong(|p| p.steps[0].into = 0);
    wrong(|p| p.steps[0].into = 200);
    wrong(|p| p.steps[3].base = 7);
    wrong(|p| p.steps[3].base = 255);
    wrong(|p| p.steps[3].text = 2);
    wrong(|p| p.steps[2].len = u32::MAX);
    wrong(|p| p.steps[2].offset = u32::MAX);
    wrong(|p| p.steps[4].len = u32::MAX);
    wrong(|p| p.texts[0].len_at = u32::MAX);
}
