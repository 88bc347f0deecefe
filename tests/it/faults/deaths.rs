//! Dying at the n-th durable step, at the n-th system call, in the middle of the n-th write, for every n: nothing is lost, the database is
//! before or after, the next command says what is left open, and the same line works again.

use super::shim::{Fault, Shim};
use super::{for_each_operation, is_thorough, place, sample};
use crate::sandbox::finish;

/// The most steps that one command takes.
const STEPS_MAX: u64 = 1000;

/// How many steps lie between two deaths where not all are tried, at most.
const STRIDE_MAX: u64 = 6;

#[test]
fn an_operation_that_dies_at_a_durable_step_loses_nothing() {
    for_each_operation("deaths at durable steps", |project, random| {
        let mut deaths = 0;
        let mut at = 1;
        while at < STEPS_MAX {
            project.reset();
            let run = finish(project.command().env("DBELAY_TEST_DIE_AT_STEP", at.to_string()));
            if run.code != -1 {
                assert_eq!(run.code, project.operation.code, "{}", run.stderr);
                assert!(deaths > 0, "{}: the command took no durable steps", project.operation.name);
                return deaths;
            }
            deaths += 1;
            project.wait();
            let place = place(project.operation, project.mode, "death at step", at);
            project.is_sound(&place);
            project.goes_on(&place);
            at += if is_thorough() { 1 } else { 1 + random.below(STRIDE_MAX) };
        }
        panic!("more than {STEPS_MAX} steps");
    });
}

/// Lets processes die at their calls on files of the project: the database and its journal, and everything else.
fn die_at_calls(fault: Fault, what: &str) {
    let shim = Shim::new();
    for_each_operation(what, |project, random| {
        let folder = project.sandbox.path("");
        let arm = |at| {
            project.reset();
            let mut command = project.command();
            shim.arm(&mut command, &folder, fault, at);
            finish(&mut command)
        };
        arm(0).exits(project.operation.code);
        let mut deaths = 0;
        for at in sample(shim.calls(), random) {
            arm(at);
            // Threads do not always make as many calls.
            if shim.calls() < at {
                continue;
            }
            deaths += 1;
            project.wait();
            let place = place(project.operation, project.mode, what, at);
            project.is_sound(&place);
            project.goes_on(&place);
        }
        deaths
    });
}

#[test]
fn an_operation_that_dies_at_a_system_call_loses_nothing() {
    die_at_calls(Fault::Kill, "deaths at system calls");
}

#[test]
fn an_operation_that_dies_within_a_write_loses_nothing() {
    die_at_calls(Fault::Tear, "deaths within writes");
}
