//! What the tests stand on: a PostgreSQL for the run, a hub per test, users, sockets.

pub mod agreed;
pub mod fake_google;
pub mod feed_server;
pub mod hub;
pub mod lossy_postgres;
pub mod moto;
pub mod node;
pub mod people;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod push_receiver;
pub mod python;
pub mod raw_socket;
pub mod redis;
pub mod rows;
pub mod sabotage;
pub mod socket;

pub use hub::{Answer, TestHub};
pub use node::Node;
pub use people::{Person, Practice};
pub use raw_socket::RawSocket;
pub use socket::Socket;
