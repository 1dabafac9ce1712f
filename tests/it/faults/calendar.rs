//! A seeker who cannot decide: holds slots, gives them back, books some, and calls those off.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::Practice;

/// Slots that are fought for.
const SLOTS: i64 = 36;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Hold,
    Book,
    /// Nothing is kept, whatever the answer.
    GiveBack,
}

pub struct Holder {
    practices: Vec<Practice>,
    every: Duration,
    next: Instant,
    holds: Vec<Uuid>,
    bookings: Vec<Uuid>,
}

impl Holder {
    pub fn new(practices: Vec<Practice>, every: Duration) -> Self {
        Self { practices, every, next: Instant::now(), holds: Vec::new(), bookings: Vec::new() }
    }

    /// The next command, when it is time for one.
    pub fn next(&mut self, rng: &mut StdRng) -> Option<(&'static str, Value, Wish)> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + self.every.mul_f64(rng.random_range(0.2..1.8));
        match rng.random_range(0..6) {
            0 | 1 if !self.holds.is_empty() => {
                let hold = self.holds.swap_remove(rng.random_range(0..self.holds.len()));
                if rng.random_bool(0.4) {
                    Some(("booking:create", json!({ "holdId": hold }), Wish::Book))
                } else {
                    Some(("hold:release", json!({ "holdId": hold }), Wish::GiveBack))
                }
            }
            2 if !self.bookings.is_empty() => {
                let booking = self.bookings.swap_remove(rng.random_range(0..self.bookings.len()));
                Some(("booking:cancel", json!({ "bookingId": booking }), Wish::GiveBack))
            }
            _ => {
                let practice = &self.practices[rng.random_range(0..self.practices.len())];
                let slot = practice.slot(rng.random_range(0..SLOTS));
                Some(("hold:create", practice.wish(slot), Wish::Hold))
            }
        }
    }

    /// The answer: the id of what is there now, if it was granted.
    pub fn heard(&mut self, wish: Wish, granted: Option<Uuid>) {
        match wish {
            Wish::Hold => self.holds.extend(granted),
            Wish::Book => self.bookings.extend(granted),
            Wish::GiveBack => {}
        }
    }
}
