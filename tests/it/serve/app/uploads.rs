//! Uploads of several members.
