//! The member's side of a push: what is there, what is staged, and the switch.
