//! What a person sees on a terminal while a task runs.

use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::task::{put, site};
use crate::support::terminal::in_terminal;

#[test]
fn a_terminal_shows_sixteen_members_at_work_and_how_many_more_there_are() {
    const MEMBERS: usize = 19;
    let world = World::with_site(MEMBERS, &site(), &[]);
    put(
        &world.source("site").join("large.bin"),
        pattern(3, 4_000_000),
    );
    let push = world.command(&["push", "platform", "site"]);
    let shown = in_terminal(&push, 40, 100);
    shown.output.clone().success();
    let full = ["and", &(MEMBERS - 16).to_string(), "more"].join(" ");
    let crowded: Vec<_> = shown
        .screens
        .iter()
        .filter(|it| it.last().is_some_and(|it| it.trim() == full))
        .collect();
    assert!(!crowded.is_empty(), "{}", shown.describe());
    for screen in crowded {
        assert_eq!(screen.len(), 1 + 16 + 1, "{screen:?}");
        assert!(screen[0].contains("push site: "), "{screen:?}");
        let names = screen[1..17]
            .iter()
            .map(|line| line.split_whitespace().next().unwrap());
        // In the inventory's order, whoever is at work.
        let numbers: Vec<u32> = names
            .map(|name| name.strip_prefix("web").unwrap().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{screen:?}");
    }
    let most = shown.screens[..shown.screens.len() - 1]
        .iter()
        .map(Vec::len)
        .max();
    assert_eq!(most, Some(1 + 16 + 1), "{}", shown.describe());
    let counted = |line: &&String| line.contains("receiving") && line.contains("MiB / ");
    assert!(
        shown.screens.iter().flatten().any(|line| counted(&line)),
        "{}",
        shown.describe()
    );
    // Nothing of it is left when the task is over.
    let end = shown.screens.last().unwrap();
    assert_eq!(end.len(), 1 + 1 + MEMBERS, "{end:?}");
    assert!(
        end[0].starts_with("site is at generation #1 on 19 of 19 members"),
        "{end:?}"
    );
    assert!(
        end[2..].iter().all(|line| line.contains("committed")),
        "{end:?}"
    );
}

#[test]
fn a_low_terminal_shows_as_many_members_as_it_has_room_for() {
    let world = World::with_site(9, &site(), &[]);
    put(
        &world.source("site").join("large.bin"),
        pattern(3, 4_000_000),
    );
    let push = world.command(&["push", "platform", "site"]);
    let shown = in_terminal(&push, 8, 100);
    shown.output.clone().success();
    let is_cut = |screen: &&Vec<String>| screen.last().is_some_and(|it| it.trim() == "and 4 more");
    let cut = shown.screens.iter().find(is_cut);
    assert_eq!(cut.map(Vec::len), Some(1 + 5 + 1), "{}", shown.describe());
    let end = shown.screens.last().unwrap();
    assert!(
        end[0].starts_with("site is at generation #1 on 9 of 9 members"),
        "{end:?}"
    );
}
