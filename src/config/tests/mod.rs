//! The configuration as a whole.

mod edits;
mod faults;
mod meaning;
mod services;

/// The first (or the next) fenced block of the published documentation.
fn documented(index: usize) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inventory.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split("```toml\n").nth(index + 1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

const SERVERS: &str = "[servers]\nweb1 = { address = \"web1\" }\nweb2 = { address = \"web2\" }\n";
