//! What a flip does to connections, wherever they are at its commit.

mod bad_line;
mod closed_listener;
mod commit;
mod cookies;
mod deadline;
mod deferred;
mod drains;
mod fast_open;
mod full_queues;
mod group_size;
mod half_open;
mod other_namespace;
mod other_user;
mod ports;
mod queued;
mod races;
mod rollback;
mod silent_clients;
mod under_load;
mod wildcards;
