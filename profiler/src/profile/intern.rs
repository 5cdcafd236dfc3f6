//! Interning. A value comes in, a dense number goes out: the same for equal values, counted from 0.
//! It knows what it costs, and what it would cost to grow, before it grows. It never forgets a
//! value.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Values with a number each.
#[derive(Debug)]
pub(super) struct Interner<T> {
    items: Vec<T>,
    slots: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            slots: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T> Interner<T> {
    /// How many values there are; numbers are below it.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The values, by number.
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// The value of a number.
    pub(super) fn at(&self, id: u32) -> Option<&T> {
        self.items.get(id as usize)
    }

    /// Bytes allocated here, not counting what values point to.
    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>() + self.slots.allocation_size()
    }

    /// Bytes that `extra` new values would allocate at most. What they replace is freed only
    /// after, so it is not subtracted.
    pub(super) fn growth(&self, extra: usize) -> usize {
        let len = self.items.len().saturating_add(extra);
        if len > u32::MAX as usize {
            return usize::MAX;
        }
        vec_growth(&self.items, extra).saturating_add(table_growth(&self.slots, len))
    }
}

/// Bytes that a vector which grows by [`step`] allocates for `extra` more values.
pub(super) fn vec_growth<T>(items: &Vec<T>, extra: usize) -> usize {
    let len = items.len() + extra;
    if len <= items.capacity() {
        return 0;
    }
    let capacity = len.max(items.capacity() + step(items.capacity()));
    capacity.saturating_mul(size_of::<T>())
}

/// Bytes that a table allocates to hold `len` values.
pub(super) fn table_growth<T>(slots: &HashTable<T>, len: usize) -> usize {
    if len <= slots.capacity() {
        return 0;
    }
    // hashbrown keeps 7/8 of a power of two, with a byte of control for each slot and one group of
    // 16 of them more.
    let least = len.max(slots.capacity() + 1).saturating_mul(8) / 7;
    let count = least.max(16).next_power_of_two();
    count.saturating_mul(size_of::<T>() + 1).saturating_add(32)
}

/// How much a full vector of this capacity grows by: half, so that the waste is bounded.
pub(super) fn step(capacity: usize) -> usize {
    (capacity / 2).max(16)
}

impl<T: Eq + Hash> Interner<T> {
    /// The number of a value that is there.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
    {
        let items = &self.items;
        self.slots
            .find(self.hasher.hash_one(value), |&id| {
                items.get(id as usize).is_some_and(|i| i.borrow() == value)
            })
            .copied()
    }

    /// The number of a value, new or not. Ask [`Interner::growth`] first.
    pub(super) fn intern(&mut self, value: T) -> u32 {
        if let Some(id) = self.get(&value) {
            return id;
        }
        let id = self.items.len() as u32;
        let hash = self.hasher.hash_one(&value);
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact(step(self.items.capacity()));
        }
        self.items.push(value);
        let (items, hasher) = (&self.items, &self.hasher);
        self.slots.insert_unique(hash, id, |&id| {
            // Every slot's number is below `len`; a value that is not there has no hash to tell.
            items.get(id as usize).map_or(0, |i| hasher.hash_one(i))
        });
        id
    }
}
