//! `dbelay demo` tells the story, and leaves a folder to play with.

use crate::sandbox::{Sandbox, finish};

#[test]
fn the_demo_loses_rows_and_brings_them_back() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command();
    command.arg("demo").env("TMPDIR", sandbox.path(""));
    let run = finish(&mut command).exits(0).prints(&[
        "$ dbelay migrate -- dbelay demo-apply migrations/001_title.sql",
        "3 of 3 rows of `messages` are gone; they went through the foreign key `messages.chat_id` -> `chats.id` ON DELETE CASCADE",
        "(exit code 4)",
        "$ dbelay undo",
        "All 3 messages are there",
    ]);
    let folder = run.stdout.rsplit("cd ").next().unwrap().trim();
    let mut command = sandbox.command();
    command.current_dir(folder).args(["fsck", "--read-data"]);
    finish(&mut command).exits(0);
    let mut command = sandbox.command();
    command.current_dir(folder).arg("undo");
    finish(&mut command).exits(0);
}
