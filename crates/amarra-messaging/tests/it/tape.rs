//! Choices on a tape: proptest writes random tapes, the explorer writes every short one.

/// Answers each choice from the tape, and with 0 from its end on.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    choices: Vec<u16>,
    /// The choices made: how many there were to choose from, and which one it was.
    made: Vec<(usize, usize)>,
}

impl Tape {
    pub(crate) fn new(choices: Vec<u16>) -> Self {
        Self { choices, made: Vec::new() }
    }

    /// Chooses a number below `n`.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        let written = self.choices.get(self.made.len()).map_or(0, |&c| usize::from(c));
        let choice = written % n;
        self.made.push((n, choice));
        choice
    }

    /// Tells whether the tape goes on.
    pub(crate) fn goes_on(&self) -> bool {
        self.made.len() < self.choices.len()
    }
}

/// Runs `body` with every tape of up to `depth` choices that lead to different runs; returns how
/// many there are.
pub(crate) fn explore(depth: usize, mut body: impl FnMut(&mut Tape)) -> usize {
    let mut choices: Vec<u16> = Vec::new();
    let mut runs = 0;
    loop {
        let mut tape = Tape::new(choices);
        body(&mut tape);
        runs += 1;
        // The next tape in order: raise the last choice that can be raised, forget what follows.
        let mut made = tape.made;
        made.truncate(depth);
        while made.last().is_some_and(|&(n, choice)| choice + 1 >= n) {
            made.pop();
        }
        let Some(last) = made.last_mut() else { return runs };
        last.1 += 1;
        choices = made.iter().map(|&(_, choice)| u16::try_from(choice).unwrap()).collect();
    }
}

#[test]
fn the_explorer_meets_every_combination_once() {
    let mut seen = std::collections::BTreeSet::new();
    let runs = explore(9, |tape| {
        let first = tape.pick(3);
        let second = if first == 1 { tape.pick(2) } else { 0 };
        assert!(seen.insert((first, second)));
    });
    assert_eq!((runs, seen.len()), (4, 4));
}
