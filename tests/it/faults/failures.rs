//! A call that fails, and a disk without room from one call on: what a command then says is true, the database is before or after, the
//! store is sound, and once the disk is well the same line works.

use super::shim::{Fault, Shim};
use super::{for_each_operation, place, sample};
use crate::sandbox::finish;

fn fail_at_calls(fault: Fault, what: &str) {
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
        let mut failures = 0;
        for at in sample(shim.calls(), random) {
            let run = arm(at);
            if shim.calls() < at {
                continue;
            }
            failures += 1;
            project.wait();
            let place = place(project.operation, project.mode, what, at);
            project.is_true(&run, &place);
            project.is_sound(&place);
            project.goes_on(&place);
        }
        failures
    });
}

#[test]
fn an_operation_below_which_a_call_fails_says_so_and_loses_nothing() {
    fail_at_calls(Fault::IoError, "calls that fail with EIO");
}

#[test]
fn an_operation_on_a_disk_that_becomes_full_says_so_and_loses_nothing() {
    fail_at_calls(Fault::Full, "disks full from a call on");
}
