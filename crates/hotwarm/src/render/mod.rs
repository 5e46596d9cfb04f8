//! What commands print: for people ([`text`]) or for programs ([`json`]). Values in, strings out; nothing here asks
//! a node anything.

pub mod json;
pub mod text;
mod time;
