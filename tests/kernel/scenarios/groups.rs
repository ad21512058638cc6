//! Who can be in a reuseport group, and how many.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::product::{Cli, program};
use synflip_wire::{Event, Phase};

use crate::{
    background::Background,
    bare::Bare,
    both,
    clients::{ASKED, answered, ask, came_to},
    scene::{self, Scene},
};

/// A user without any privilege.
const NOBODY: u32 = 65534;

/// A group begins with room for 128 and is copied when it grows: the program, and what is pending
/// on its members, have to stay.
fn a_group_that_grows_keeps_what_it_has_and_steers_to_all() -> Result<()> {
    both(|family| {
        let scene = Scene::new(family, &[])?;
        let mut old = Bare::start(&scene, 1, 70)?;
        old.is_told(Event::Working)?;
        let queued = ask(&scene, 3)?;
        let mut held = scene.half_open(3)?;
        let new = Bare::start(&scene, 2, 130)?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        scene.wait_pending("gen1", 3, 3)?;
        flip.still_runs()?;
        let mut came = vec![0; 130];
        // Each of the new ones is missed by so many with a probability of less than 1 in 10,000.
        for _ in 0..2000_usize.div_ceil(ASKED) {
            let now = came_to(&scene, &[&new])?;
            came.iter_mut().zip(now).for_each(|(sum, now)| *sum += now);
        }
        ensure!(came.iter().all(|count| *count > 0), "{came:?}");
        for half_open in &mut held {
            half_open.ack()?;
            half_open.send(scene::REQUEST)?;
        }
        old.serve(6)?;
        for client in queued {
            ensure!(answered(client)? == 1, "a queued connection went elsewhere");
        }
        for half_open in &mut held {
            ensure!(
                scene::receive(half_open)? == 1,
                "a handshake went elsewhere"
            );
        }
        old.is_told(Event::Drained)?;
        flip.finish()?;
        old.close()?;
        scene.wait_gone("gen1")?;
        scene.check_steered(2000)
    })
}

/// The kernel keeps users apart: a server of another one cannot even bind.
fn a_generation_of_another_user_is_told_why_it_cannot_join() -> Result<()> {
    both(|family| {
        let scene = Scene::new(family, &[])?;
        let mut old = Bare::start(&scene, 1, 2)?;
        old.is_told(Event::Working)?;
        let before = scene.service()?;
        let socket = scene.agent.socket();
        let dir = socket.parent().context("a directory")?;
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
        let mut other = Command::new(program("synflip-server")?);
        other.args([
            "--require-agent",
            "--listen",
            &scene.to.to_string(),
            "--socket",
        ]);
        other.arg(&socket).uid(NOBODY).gid(NOBODY);
        other
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let other = Cli::from(scene.netns.spawn(&mut other)?.wait_with_output()?);
        ensure!(other.code == 1, "{other:?}");
        for words in [
            &scene.to.to_string(),
            "another user",
            "run all generations as one",
        ] {
            ensure!(other.stderr.contains(words), "no {words:?} in {other:?}");
        }
        let after = scene.service()?;
        ensure!(after == before, "{after:#?}");
        ensure!(
            came_to(&scene, &[&old])?.iter().all(|count| *count > 0),
            "not steered"
        );
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_group_that_grows_keeps_what_it_has_and_steers_to_all
        a_generation_of_another_user_is_told_why_it_cannot_join
    }
}
