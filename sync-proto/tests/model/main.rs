//! The two-phase commit as a model: every course of events of small worlds, and random ones of
//! larger worlds, against what may never be.
//!
//! `FANOUT_MODEL_SECONDS` says about how long to look; above 30, which is the default, larger worlds
//! are looked at too. `FANOUT_MODEL_SEED` says where the random courses begin.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking, and says how far it came"
)]

mod world;

use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};
use sync_proto::commit::Policy;
use world::{Broken, Setting, Step, World};

const POLICIES: [Policy; 4] = [
    Policy::All,
    Policy::Reachable,
    Policy::Quorum(2),
    Policy::Each,
];

const USUAL_SECONDS: u64 = 30;

fn seconds() -> u64 {
    let given = std::env::var("FANOUT_MODEL_SECONDS").ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(USUAL_SECONDS)
}

fn setting(members: u8, policy: Policy) -> Setting {
    Setting {
        members,
        policy,
        min_healthy: 1,
        pushes: 1,
        crashes: 1,
        repeats: 0,
        wipes: 0,
        asks_all: true,
    }
}

/// Two hashes of a world, so that two worlds are taken for one once in 2^128.
struct Seen {
    worlds: HashSet<u128>,
    keys: [RandomState; 2],
}

impl Seen {
    fn insert(&mut self, world: &World) -> bool {
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(world));
        self.worlds.insert(u128::from(high) << 64 | u128::from(low))
    }
}

/// How a world came about: an index into all that came about, and the last step.
type Course = Vec<(usize, Step)>;

#[track_caller]
fn fail(setting: &Setting, steps: &[Step], broken: &Broken) -> ! {
    let mut told = String::new();
    let mut world = World::new(setting);
    for (nth, step) in steps.iter().enumerate() {
        told += &format!("{nth:3} {step:?}\n");
        if world.apply(setting, *step).is_err() {
            break;
        }
    }
    panic!("{broken}\n{setting:?}\n{told}{world:#?}");
}

/// Every course of events, the shortest first; the number of worlds, and whether that was all.
#[track_caller]
fn explore(setting: &Setting, until: Instant) -> (usize, bool) {
    let mut seen = Seen {
        worlds: HashSet::new(),
        keys: [RandomState::new(), RandomState::new()],
    };
    let mut course: Course = Vec::new();
    let steps_to = |course: &Course, mut at: usize, last: Option<Step>| {
        let mut steps: Vec<Step> = last.into_iter().collect();
        while let Some((before, step)) = at.checked_sub(1).and_then(|at| course.get(at)) {
            steps.push(*step);
            at = *before;
        }
        steps.reverse();
        steps
    };
    let first = World::new(setting);
    seen.insert(&first);
    let mut open = VecDeque::from([(first, 0)]);
    while let Some((world, at)) = open.pop_front() {
        if Instant::now() > until {
            return (seen.worlds.len(), false);
        }
        if let Err(broken) = world.heal(setting) {
            fail(setting, &steps_to(&course, at, None), &broken);
        }
        for step in world.steps(setting) {
            let mut next = world.clone();
            if let Err(broken) = next.apply(setting, step) {
                fail(setting, &steps_to(&course, at, Some(step)), &broken);
            }
            if seen.insert(&next) {
                course.push((at, step));
                open.push_back((next, course.len()));
            }
        }
    }
    (seen.worlds.len(), true)
}

/// A course at random, of so many steps at most.
#[track_caller]
fn wander(setting: &Setting, random: &mut u64, most: usize) -> usize {
    let mut world = World::new(setting);
    let mut taken = Vec::new();
    for _ in 0..most {
        let steps = world.steps(setting);
        if steps.is_empty() {
            break;
        }
        // xorshift64*: a seed is all that a failure needs to be seen again.
        *random ^= *random >> 12;
        *random ^= *random << 25;
        *random ^= *random >> 27;
        let at = random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        let step = steps[at as usize % steps.len()];
        taken.push(step);
        let done = world
            .apply(setting, step)
            .and_then(|()| world.heal(setting));
        if let Err(broken) = done {
            fail(setting, &taken, &broken);
        }
    }
    taken.len()
}

/// Small worlds, all of them: every order of everything that can happen.
#[test]
fn no_course_of_events_in_a_small_world_breaks_a_promise() {
    let until = Instant::now() + Duration::from_secs(seconds() * 8);
    let is_long = seconds() > USUAL_SECONDS;
    for policy in POLICIES {
        let two = setting(2, policy);
        let mut worlds = vec![
            two,
            Setting {
                crashes: 0,
                repeats: 1,
                ..two
            },
            // A hub that loses its state.
            Setting {
                crashes: 0,
                wipes: 1,
                ..two
            },
        ];
        if is_long || policy == Policy::All {
            // And then doesn't find all its members.
            worlds.push(Setting {
                wipes: 1,
                asks_all: false,
                ..two
            });
        }
        if is_long {
            worlds.extend([
                Setting { repeats: 1, ..two },
                Setting {
                    members: 3,
                    crashes: 0,
                    ..two
                },
                Setting {
                    pushes: 2,
                    crashes: 0,
                    ..two
                },
            ]);
        }
        for world in worlds {
            let (count, is_all) = explore(&world, until);
            eprintln!("{world:?}: {count} worlds");
            assert!(
                is_long || is_all,
                "not all of {world:?} after {count} worlds"
            );
        }
    }
}

/// Larger worlds, as far as the time goes: four members, three pushes, several crashes.
#[test]
fn no_random_course_of_events_breaks_a_promise() {
    let seed = std::env::var("FANOUT_MODEL_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok());
    let mut random: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0_u8) | 1);
    eprintln!("FANOUT_MODEL_SEED={random}");
    let until = Instant::now() + Duration::from_secs(seconds() / 3);
    let (mut courses, mut steps) = (0_u64, 0_u64);
    while Instant::now() < until {
        for policy in POLICIES {
            for members in 2..=4 {
                let world = Setting {
                    min_healthy: 1 + (courses % 2) as u32,
                    pushes: 3,
                    crashes: 4,
                    repeats: 3,
                    wipes: (courses % 3 == 0).into(),
                    asks_all: courses % 2 == 0,
                    ..setting(members, policy)
                };
                steps += wander(&world, &mut random, 200) as u64;
                courses += 1;
            }
        }
    }
    eprintln!("{courses} courses, {steps} steps");
    assert!(courses > 100, "no more than {courses} courses");
}
