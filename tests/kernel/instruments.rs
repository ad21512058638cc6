//! The test bed tells the truth, so that the other tests can rely on it.

mod capabilities;
mod flood;
mod link;
mod load;
mod raw_client;
