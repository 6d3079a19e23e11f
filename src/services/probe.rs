//! What several web servers answered to the same question, beside each other: pure comparison.
//!
//! A page that is different at each visit says nothing by its bytes; then its title, its kind and
//! its status are what is compared, or whether a text that somebody named is in it.

use std::collections::BTreeMap;
use sync_proto::wire::service::Probed;

/// Somebody's answers to the same question, asked twice.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who answered.
    pub who: String,
    /// Twice.
    pub answers: [Probed; 2],
    /// The code's generation there, where it is known.
    pub generation: Option<u64>,
}

/// One that answers differently from most, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Different {
    /// Who.
    pub who: String,
    /// In what, for a person.
    pub how: String,
}

/// What was compared of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Every byte.
    Bytes,
    /// Title and kind: the page is different at each visit.
    Title,
    /// Whether the marker is in it.
    Marker,
}

/// Compares everybody with what most say; what is wrong by itself is different from nobody's.
pub fn compare(asked: &[Asked], marker: Option<&str>) -> (Compared, Vec<Different>) {
    let is_steady = |one: &Asked| one.answers[0].digest == one.answers[1].digest;
    let compared = match marker {
        Some(_) => Compared::Marker,
        None if asked.iter().all(is_steady) => Compared::Bytes,
        None => Compared::Title,
    };
    let mut different = Vec::new();
    let most_generation = most(asked.iter().filter_map(|one| one.generation));
    let most_status = most(asked.iter().map(|one| status(&one.answers[1])));
    let most_page = most(
        asked
            .iter()
            .map(|one| page(&one.answers[1], compared, marker)),
    );
    for one in asked {
        let answer = &one.answers[1];
        let mut how = Vec::new();
        if answer.status == 0 {
            how.push(format!("no answer: {}", answer.error));
        } else if !matches!(answer.status, 200..=399 | 401) {
            how.push(format!("status {}", answer.status));
        } else if Some(status(answer)) != most_status {
            how.push(match answer.location.as_str() {
                "" => format!("status {}", answer.status),
                to => format!("status {} to {to}", answer.status),
            });
        }
        let own = page(answer, compared, marker);
        if answer.status != 0 && Some(&own) != most_page.as_ref() {
            how.push(match compared {
                Compared::Bytes => "another page".into(),
                Compared::Title => format!("another page, {own}"),
                Compared::Marker => own.clone(),
            });
        } else if compared == Compared::Marker && own != IS_THERE && answer.status != 0 {
            how.push(own);
        }
        if let (Some(generation), Some(most)) = (one.generation, most_generation)
            && generation != most
        {
            how.push(format!("generation #{generation}, others #{most}"));
        }
        if !how.is_empty() {
            different.push(Different {
                who: one.who.clone(),
                how: how.join("; "),
            });
        }
    }
    (compared, different)
}

const IS_THERE: &str = "has the marker";

fn status(answer: &Probed) -> (u16, String) {
    (answer.status, answer.location.clone())
}

fn page(answer: &Probed, compared: Compared, marker: Option<&str>) -> String {
    match compared {
        Compared::Bytes => hex(&answer.digest),
        Compared::Title => format!("{} {}", title(&answer.excerpt), kind(&answer.content_type)),
        Compared::Marker => {
            let has = answer.excerpt.contains(marker.unwrap_or_default());
            if has { IS_THERE } else { "lacks the marker" }.into()
        }
    }
}

/// The kind of a page without its parameters.
fn kind(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The title of a page, as far as it begins in what was kept of it.
pub fn title(page: &str) -> String {
    // In ASCII only, so that places in the one are places in the other.
    let lower = page.to_ascii_lowercase();
    let inside = lower.find("<title").and_then(|tag| {
        let begin = tag + lower.get(tag..)?.find('>')? + 1;
        let end = begin
            + lower
                .get(begin..)?
                .find("</title")
                .unwrap_or(page.len() - begin);
        page.get(begin..end)
    });
    let words: Vec<&str> = inside.unwrap_or_default().split_whitespace().collect();
    words.join(" ")
}

/// The first bytes of a digest, as people compare them.
pub fn hex(digest: &[u8; 32]) -> String {
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What is there most often; of several, the first.
fn most<T: Ord + Clone>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, (usize, usize)> = BTreeMap::new();
    for (at, one) in all.enumerate() {
        let entry = counts.entry(one).or_insert((0, at));
        entry.0 += 1;
    }
    let best = counts
        .into_iter()
        .max_by_key(|(_, (count, at))| (*count, std::cmp::Reverse(*at)));
    best.map(|(one, _)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Probed {
        Probed {
            status,
            digest: *blake3::hash(body.as_bytes()).as_bytes(),
            excerpt: body.into(),
            ..Probed::default()
        }
    }

    fn asked(who: &str, first: Probed, second: Probed) -> Asked {
        Asked {
            who: who.into(),
            answers: [first, second],
            generation: Some(3),
        }
    }

    fn same(who: &str, status: u16, body: &str) -> Asked {
        asked(who, answer(status, body), answer(status, body))
    }

    #[test]
    fn who_answers_like_most_is_not_different() {
        let mut all = vec![same("web1", 200, "a"), same("web2", 200, "a")];
        assert_eq!(compare(&all, None), (Compared::Bytes, Vec::new()));
        all.push(same("web3", 200, "b"));
        all.push(same("web4", 500, "a"));
        all[1].generation = Some(2);
        let (_, different) = compare(&all, None);
        let said: Vec<String> = different
            .iter()
            .map(|it| format!("{}: {}", it.who, it.how))
            .collect();
        assert_eq!(
            said,
            [
                "web2: generation #2, others #3",
                "web3: another page",
                "web4: status 500"
            ]
        );
    }

    #[test]
    fn an_error_that_all_share_is_an_error() {
        let all = [same("web1", 500, "x"), same("web2", 500, "x")];
        assert_eq!(compare(&all, None).1.len(), 2);
    }

    #[test]
    fn a_page_that_changes_by_itself_is_compared_by_its_title() {
        let page = |title: &str, n: u8| answer(200, &format!("<TITLE id=x>{title}\n</title>{n}"));
        let all = [
            asked("web1", page("Shop", 1), page("Shop", 2)),
            asked("web2", page("Shop", 3), page("Shop", 4)),
            asked("web3", page("Error", 5), page("Error", 6)),
        ];
        let (compared, different) = compare(&all, None);
        assert_eq!(compared, Compared::Title);
        assert_eq!(different.len(), 1);
        assert!(different[0].how.contains("Error"), "{different:?}");
        let (_, different) = compare(&all, Some("Shop"));
        assert_eq!(different[0].who, "web3");
        assert_eq!(different[0].how, "lacks the marker");
    }

    #[test]
    fn a_title_is_found_in_whatever_comes() {
        for (page, expected) in [
            ("<title>A\n  b</title>", "A b"),
            ("<title>cut off", "cut off"),
            ("<title", ""),
            ("", ""),
            ("ÄÖ<title>ü</title>", "ü"),
        ] {
            assert_eq!(title(page), expected, "{page}");
        }
    }
}
