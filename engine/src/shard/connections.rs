//! Connections: those of one shard, found by the slot that their driver has named them by.
//!
//! In:   connections, each under the id that its driver gave it.
//! Out:  the connection of an id, at the cost of one look; all of them, in the order of the slots.
//! Law:  an id whose connection is gone finds nothing, whoever has its slot now.
//! Not:  what a connection is (`connection`), who gives the ids (`io::slots`).

use super::connection::Connection;
use crate::io::ConnectionId;
use crate::io::slots::index_of;

/// The connections of one shard. The places are as many as the driver has slots.
#[derive(Default)]
pub(crate) struct Connections {
    places: Vec<Option<Box<Connection>>>,
    used: usize,
}

impl Connections {
    /// Keeps a connection under its own id: a new one, or one that was taken out.
    pub(crate) fn insert(&mut self, connection: Box<Connection>) {
        let index = index_of(connection.id) as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        if let Some(place) = self.places.get_mut(index) {
            debug_assert!(place.is_none(), "a slot is used again when its connection is gone");
            self.used += usize::from(place.is_none());
            *place = Some(connection);
        }
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let place = self.places.get_mut(index_of(id) as usize)?;
        let connection = place.take_if(|connection| connection.id == id)?;
        self.used -= 1;
        Some(connection)
    }

    /// The connection of this id.
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let place = self.places.get(index_of(id) as usize)?;
        place.as_deref().filter(|connection| connection.id == id)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = self.places.get_mut(index_of(id) as usize)?;
        place.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// Every connection.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.places.iter().flatten().map(|connection| &**connection)
    }

    /// The id of every connection.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(|connection| connection.id).collect()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use storage::time::Micros;

    use super::*;
    use crate::io::Now;
    use crate::io::slots::Slots;

    fn connection(id: ConnectionId) -> Box<Connection> {
        let peer = SocketAddr::from(([192, 0, 2, 1], 7));
        Box::new(Connection::new(id, peer, Now { wall: Micros(0), monotonic_us: 0 }))
    }

    #[test]
    fn an_id_finds_its_own_connection_and_no_other_of_its_slot() {
        let (mut slots, mut connections) = (Slots::new(), Connections::default());
        let [first, second] = [slots.insert(()), slots.insert(())];
        connections.insert(connection(first));
        connections.insert(connection(second));
        assert_eq!(connections.ids(), [first, second]);
        assert_eq!(connections.remove(first).map(|connection| connection.id), Some(first));
        slots.remove(first);
        let third = slots.insert(());
        assert_eq!(index_of(third), index_of(first));
        connections.insert(connection(third));
        assert!(connections.get(first).is_none() && connections.get_mut(first).is_none());
        assert!(connections.remove(first).is_none());
        assert_eq!(connections.get(third).map(|connection| connection.id), Some(third));
        assert!(connections.remove(third).is_some() && connections.remove(second).is_some());
        assert!(connections.is_empty());
    }
}
