//! Breaks a group of real processes on purpose, under judged load.
//!
//! `lab` makes the surroundings of a group: network namespaces, firewalls, disks of their own, limits; `wire` joins them by a
//! switch that delays, loses, reorders, doubles and holds packets; `group` runs the program in them, and watches it. Clients
//! (`workload`) write down what they were told, `judge` holds that against what a correct group could have shown, and
//! `timeline` draws the run. What strikes, and when, is not here yet.

pub mod clock;
pub mod dice;
pub mod faults;
pub mod group;
pub mod judge;
pub mod lab;
pub mod probe;
pub mod process;
pub mod record;
pub mod resp;
pub mod timeline;
pub mod tools;
pub mod wire;
pub mod workload;
