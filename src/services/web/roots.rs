//! apache's file of roots, which all its sites share.

use sync_proto::wire::service::ConfigArea;

/// The file's name.
pub(super) const ROOTS: &str = "00-roots.conf";

/// Is it the file of roots?
pub fn is_roots(area: ConfigArea, name: &str) -> bool {
    area == ConfigArea::Apache && name == ROOTS
}

/// A new file of roots with those that only the live one has: sites that stay for now lead there.
pub fn with_live_roots(new: &[u8], live: &[u8]) -> Vec<u8> {
    let (new, live) = (String::from_utf8_lossy(new), String::from_utf8_lossy(live));
    let begins = |line: &str| line.trim_start().starts_with("<IfDefine !");
    let mut text = new.clone().into_owned();
    let mut lines = live.lines();
    while let Some(first) = lines.find(|line| begins(line)) {
        let mut block = vec![first];
        for line in lines.by_ref() {
            block.push(line);
            if line.trim() == "</IfDefine>" {
                break;
            }
        }
        if !new.lines().any(|line| line.trim() == first.trim()) {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&block.join("\n"));
            text.push('\n');
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str) -> String {
        format!("<IfDefine !{name}>\n    Define {name} \"/srv/{name}\"\n</IfDefine>\n")
    }

    #[test]
    fn roots_of_sites_that_stay_are_kept_and_none_is_there_twice() {
        let live = format!("# head\n{}{}", block("A"), block("B"));
        let new = format!("# head\n{}", block("B"));
        let both = with_live_roots(new.as_bytes(), live.as_bytes());
        let both = String::from_utf8(both).unwrap();
        assert_eq!(both, format!("# head\n{}{}", block("B"), block("A")));
        let again = with_live_roots(new.as_bytes(), both.as_bytes());
        assert_eq!(String::from_utf8(again).unwrap(), both);
    }
}
