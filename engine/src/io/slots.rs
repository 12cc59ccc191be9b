//! Connections by id: a vector of slots, each used again under another id.
//!
//! In:   whatever a driver keeps per connection.
//! Out:  `ConnectionId`, slot in the low half, generation of the slot in the high half.
//! Law:  an id is never given twice, so a late completion can never meet another connection.
//! Not:  sockets.

use crate::io::ConnectionId;

/// A vector of connections with stable ids; insertion, look-up and removal cost O(1).
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    used: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// No connections.
    pub fn new() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new(), used: 0 }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Keeps `value` and names it.
    pub fn insert(&mut self, value: T) -> ConnectionId {
        self.used += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            u32::try_from(self.slots.len() - 1).expect("descriptors are counted in 32 bits")
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        ConnectionId(u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// The connection of this id, unless it is gone.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let slot = self.slots.get_mut(index_of(id) as usize)?;
        if slot.generation == generation_of(id) { slot.value.as_mut() } else { None }
    }

    /// Takes the connection of this id out; its slot is used again under another id.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let slot = self.slots.get_mut(index_of(id) as usize)?;
        if slot.generation != generation_of(id) {
            return None;
        }
        let value = slot.value.take()?;
        self.used -= 1;
        // A slot whose generations are spent is left unused for ever, rather than named twice.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(index_of(id));
        }
        Some(value)
    }

    /// The id of the connection that uses this slot now.
    pub fn id_at(&self, index: u32) -> Option<ConnectionId> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref()?;
        Some(ConnectionId(u64::from(slot.generation) << 32 | u64::from(index)))
    }

    /// Every id in use, by slot.
    pub fn ids(&self) -> Vec<ConnectionId> {
        (0..self.slots.len()).filter_map(|index| self.id_at(u32::try_from(index).ok()?)).collect()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots::new()
    }
}

/// The slot that an id names: what fits beside an operation code into 64 bits of user data.
pub fn index_of(id: ConnectionId) -> u32 {
    (id.0 & u64::from(u32::MAX)) as u32
}

fn generation_of(id: ConnectionId) -> u32 {
    (id.0 >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_under_another_id() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(index_of(first), index_of(second));
        assert_ne!(first, second);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!((slots.len(), slots.ids()), (1, vec![second]));
    }

    #[test]
    fn a_slot_whose_generations_are_spent_is_retired() {
        let mut slots = Slots::new();
        let id = slots.insert(1);
        slots.slots[0].generation = u32::MAX;
        assert_eq!(slots.get_mut(id), None);
        let last = slots.id_at(0).unwrap();
        assert_eq!(slots.remove(last), Some(1));
        assert_eq!(index_of(slots.insert(2)), 1);
    }
}
