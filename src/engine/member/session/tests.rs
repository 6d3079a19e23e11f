//! What a session says, as far as it needs no connection.

use super::*;

#[test]
fn notices_fit_into_a_message_and_the_rest_is_counted() {
    let notices = |count: usize| -> Vec<Notice> {
        let one = |nth: usize| Notice {
            code: String::new(),
            path: nth.to_string().into_bytes(),
            message: "stays".to_owned(),
        };
        (0..count).map(one).collect()
    };
    for count in [0, 1, MAX_TOLD] {
        assert_eq!(told(notices(count)), notices(count));
    }
    for more in [1, 7] {
        let told = told(notices(MAX_TOLD + more));
        assert_eq!(told[..MAX_TOLD], notices(MAX_TOLD));
        assert_eq!(told.len(), MAX_TOLD + 1);
        assert_eq!(told[MAX_TOLD].message, format!("and {more} more"));
    }
}

#[test]
fn the_clock_that_hubs_compare_theirs_with_goes_by_microseconds() {
    let us = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.unwrap().as_micros()).unwrap()
    };
    let before = us();
    let told = now_us();
    assert!((before..=us()).contains(&told), "{told}");
}

#[test]
fn needs_go_out_in_parts_that_fit_into_a_message_and_the_last_says_so() {
    use sync_proto::digest::Digest;
    // The longest numbers there are.
    let (index, content) = (u32::MAX, Digest::of(b"x"));
    let needs = Needs {
        whole: vec![(index, index); PART_BYTES / 10 + 1],
        patched: vec![(index, content); 2 * (PART_BYTES / 40)],
        resumed: vec![(index, u64::MAX, content); PART_BYTES / 50 + 1],
    };
    let parts = staging::parts_of(needs.clone());
    let last: Vec<bool> = parts.iter().map(|(_, last)| *last).collect();
    assert_eq!(last, [false, false, false, false, false, true]);
    let mut together = Needs::default();
    for (needs, last) in parts {
        let reply = Reply::Need {
            needs: needs.clone(),
            last,
        };
        wire::encode(&reply).unwrap();
        together.whole.extend(needs.whole);
        together.patched.extend(needs.patched);
        together.resumed.extend(needs.resumed);
    }
    assert_eq!(together, needs);
    assert!(staging::parts_of(Needs::default()).is_empty());
}
