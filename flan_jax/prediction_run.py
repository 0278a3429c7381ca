"""A command that predicts: what it is to do, what is there of it, the rest."""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from typing import Any, cast, TYPE_CHECKING, TypeVar

from flan_jax import configuration
from flan_jax import errors
from flan_jax import heap
from flan_jax import hosts
from flan_jax import partitioning
from flan_jax import prediction_jobs
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import failures
from flan_jax.checkpoints import places
from flan_jax.inference import infer_settings
from flan_jax.inference import output as output_lib
from flan_jax.inference import progress as progress_lib
from flan_jax.inference import writer
import numpy as np

if TYPE_CHECKING:
  from flan_jax.inference import predictor as predictor_lib

# A sample that tells what the vocabulary loses: of so many jobs so many inputs.
_SAMPLED_JOBS, _SAMPLED_EXAMPLES = 32, 8

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Run:
  """What the settings lead to; making it needs no jax.

  Attributes:
    settings: The settings.
    checkpoints: The one that is named, or all of a run, the newest first.
    rendering: The vocabulary and lengths.
    jobs: What there is to predict, for all shards together.
    shard: Which share of it is ours.
    overwrite: Whether to predict again what is there already.
  """

  settings: infer_settings.Infer
  checkpoints: Sequence[pathlib.Path]
  rendering: prediction_jobs.Rendering
  jobs: Sequence[prediction_jobs.Job]
  shard: output_lib.Shard
  overwrite: bool

  @property
  def directory(self) -> pathlib.Path:
    return pathlib.Path(self.settings.output_dir).expanduser()

  def check(self) -> None:
    """Looks at what must not be.

    Raises:
      UserError: The predictions would be written over the prompts, or the model
        cannot read an input whole and must not cut it.
    """
    given = self.settings.input_file
    if given is not None:
      file = pathlib.Path(given).expanduser()
      paths = [self.output('').path(job.name) for job in self.jobs]
      if file.resolve() in [path.resolve() for path in paths]:
        raise errors.UserError(
            f'INFER_OUTPUT_DIR: {self.directory}: the predictions would be'
            f' written over INPUT_FILE {file}; name another directory'
        )
    if self.settings.long_inputs == 'refuse':
      self._refuse_long_inputs()
    line = self._losses()
    if line is not None:
      _say(line)

  def _losses(self) -> str | None:
    """Says what the vocabulary loses of some inputs, if it does."""
    random = np.random.default_rng(0)
    texts: list[str] = []

    def some(size: int, most: int) -> np.ndarray:
      # Unlike a permutation, takes no memory for those that are not chosen.
      return random.choice(size, min(size, most), replace=False, shuffle=False)

    for place in some(len(self.jobs), _SAMPLED_JOBS).tolist():
      job = self.jobs[place]
      rows = np.sort(some(job.size, _SAMPLED_EXAMPLES))
      texts += [each.inputs for each in job.open()(rows)]
    return vocabularies.losses_notice(
        self.rendering.vocabulary, 'the inputs', texts
    )

  def _refuse_long_inputs(self) -> None:
    """Raises a UserError for the first input of this shard that is too long."""
    most = self.rendering.lengths['inputs']
    for share in self.shares():
      examples = share.job.open()
      for first, last in self.blocks(share.first, share.last):
        some = examples(np.arange(first, last))
        encoded = self.rendering.vocabulary.encode_batch(
            [each.inputs for each in some]
        )
        for example, ids in zip(some, encoded, strict=True):
          if len(ids) >= most:
            raise errors.UserError(
                f'{example.task} {example.row_id}: inputs: have'
                f' {len(ids) + 1:,} tokens, of which the model reads {most:,};'
                " shorten them, or set LONG_INPUTS='cut'"
            )

  def shares(self) -> list[prediction_jobs.Share]:
    """Returns what this shard has of each job."""
    return prediction_jobs.shares(
        self.jobs, self.settings.block_size, self.shard.share
    )

  def blocks(self, first: int, last: int) -> list[tuple[int, int]]:
    """Returns the blocks of examples from `first`, where one begins."""
    size = self.settings.block_size
    return [
        (start, min(start + size, last)) for start in range(first, last, size)
    ]

  def common(self) -> dict[str, Any]:
    """Returns what must be the same on all hosts."""
    return {
        **configuration.by_name(self.settings),
        'the checkpoint': self.checkpoints[0].name,
        'VOCABULARY.sha256': self.rendering.vocabulary.describe()['sha256'],
        '--shard': dataclasses.astuple(self.shard),
        **{
            f'the number of examples of {job.name}': job.size
            for job in self.jobs
        },
        **{f'the examples of {job.name}': job.facts() for job in self.jobs},
    }

  def output(self, checkpoint: str | pathlib.Path) -> output_lib.Output:
    """Returns the directory, for predictions of a checkpoint."""
    settings = self.settings
    recorded: dict[str, Any] = {
        'checkpoint': str(storage.resolved(storage.path(checkpoint))),
        'model': places.identity(checkpoint),
        'use_ema': settings.use_ema,
        'max_examples': settings.max_examples,
        'task_feature_lengths': dict(self.rendering.lengths),
        'normalisation': settings.normalisation,
        'pmi_premise': settings.pmi_premise,
        'decoding': dataclasses.asdict(settings.decoding),
        'block_size': settings.block_size,
    }
    if settings.input_file is None:
      recorded |= {
          'split': settings.split,
          'few_shot_layout': dataclasses.asdict(self.rendering.layout),
      }
    else:
      recorded['input_file'] = str(pathlib.Path(settings.input_file).resolve())
    return output_lib.Output(self.directory, recorded, self.shard)

  def predictor(self, checkpoint: pathlib.Path) -> 'predictor_lib.Predictor':
    """Loads the model."""
    from flan_jax.checkpoints import native
    from flan_jax.inference import predictor as predictor_lib

    settings = self.settings
    mesh = partitioning.make_mesh(settings.mesh)
    hosts.meet(mesh)
    heap.keep_on(mesh)
    loaded = native.load_model(
        checkpoint,
        mesh=mesh,
        model_config=settings.model,
        use_ema=settings.use_ema,
    )
    predictor = predictor_lib.Predictor(
        loaded.model,
        loaded.params,
        self.rendering.vocabulary,
        mesh=mesh,
        lengths=self.rendering.lengths,
        **settings.of_predictor(),
    )
    # So that what is written depends on neither shards nor restarts.
    predictor.settle(prediction_jobs.sample(self.jobs))
    return predictor


def open_work(run: Run, session: hosts.Session) -> 'Work':
  """Loads the newest checkpoint that can be read, unless nothing is left to do.

  Raises:
    UserError: Files are there that were made otherwise; or no checkpoint can
      be read.
  """
  shares = run.shares()
  seen: dict[pathlib.Path, list[int | None]] = {}

  def load(checkpoint: pathlib.Path) -> 'predictor_lib.Predictor | None':
    output = run.output(checkpoint)
    # A file that was begun with an earlier checkpoint is no mistake where this
    # one turns out to be broken: so that is found out first.
    mistake = None
    try:
      there = session.together(lambda: _there(run, shares, output))
      # The first host is the one that writes.
      seen[checkpoint] = hosts.gather(there)[0]
      if not any(_left(shares, seen[checkpoint])):
        return None
    except errors.UserError as error:
      if len(run.checkpoints) == 1:
        raise
      mistake = error
    predictor = session.together(lambda: run.predictor(checkpoint))
    if mistake is not None:
      raise mistake
    return predictor

  checkpoint, predictor = newest(
      run.checkpoints, load, _say if session.first else lambda line: None
  )
  return Work(run, run.output(checkpoint), shares, seen[checkpoint], predictor)


def _there(
    run: Run,
    shares: Sequence[prediction_jobs.Share],
    output: output_lib.Output,
) -> list[int | None]:
  """Returns how many examples of each share are there, None for all."""
  if run.overwrite:
    return [0] * len(shares)
  return [
      output.there(
          share.job.name,
          share.first,
          share.last,
          run.settings.block_size,
          share.job.facts(),
      )
      for share in shares
  ]


def _left(
    shares: Sequence[prediction_jobs.Share], there: Sequence[int | None]
) -> list[int]:
  """Returns how many examples of each share are to be predicted."""
  return [
      0 if kept is None else len(share) - kept
      for share, kept in zip(shares, there, strict=True)
  ]


@dataclasses.dataclass(frozen=True)
class Done:
  """One line of the summary.

  Attributes:
    name: The task's.
    path: Its file.
    contents: What the file holds.
    predicted: Examples that were predicted now; the others were there already.
    seconds: What that took.
  """

  name: str
  path: pathlib.Path
  contents: writer.Contents
  predicted: int = 0
  seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Work:
  """What is to be predicted, what is there of it, and what predicts."""

  run: Run
  output: output_lib.Output
  shares: list[prediction_jobs.Share]
  there: list[int | None]
  predictor: 'predictor_lib.Predictor | None'

  def predict(self, session: hosts.Session) -> list[Done]:
    """Predicts what is not there yet; returns the lines of the summary."""
    left = sum(_left(self.shares, self.there))
    done = []
    with contextlib.closing(self._progress(left, session.first)) as progress:
      for share, kept in zip(self.shares, self.there, strict=True):
        name = share.job.name
        path = self.output.path(name)
        if kept is None:
          if session.first:
            print(f'{name}: {path} is finished; --overwrite predicts it again')
          done.append(Done(name, path, self._contents(path, session)))
          continue
        if kept and session.first:
          _say(f'{name}: going on after {kept:,} of {len(share):,} examples')
        start = time.perf_counter()
        self._predict(share, kept, session, progress)
        done.append(
            Done(
                name,
                path,
                self._contents(path, session),
                len(share) - kept,
                time.perf_counter() - start,
            )
        )
      if session.first and self.predictor and progress.examples:
        _say(f'{progress.summary()}; {self.predictor.compilations()}')
    return done

  def _progress(self, left: int, active: bool) -> progress_lib.Progress:
    from flan_jax.inference import running

    predictor = self.predictor
    return progress_lib.Progress(
        left,
        (lambda: predictor.tokens) if predictor else running.Tokens,
        active,
    )

  def _predict(
      self,
      share: prediction_jobs.Share,
      kept: int,
      session: hosts.Session,
      progress: progress_lib.Progress,
  ) -> None:
    """Predicts what is missing of a share, and writes it block by block."""
    job = share.job
    progress.begin(job.name)
    with contextlib.ExitStack() as stack:
      part = None
      if session.first:
        part = stack.enter_context(
            self.output.begin(job.name, kept, job.facts(), self.run.overwrite)
        )
      examples = job.open()
      for first, last in self.run.blocks(share.first + kept, share.last):
        assert self.predictor is not None
        some = examples(np.arange(first, last))
        said = self.predictor.predict(some, job.evaluation, progress.add)
        if part is not None:
          part.add(writer.records(some, said, first))
      if part is not None:
        part.finish()

  def _contents(
      self, path: pathlib.Path, session: hosts.Session
  ) -> writer.Contents:
    return writer.contents(path) if session.first else writer.Contents()


def newest(
    candidates: Sequence[pathlib.Path],
    load: Callable[[pathlib.Path], T],
    say: Callable[[str], None],
) -> tuple[pathlib.Path, T]:
  """Returns the first checkpoint that can be read, and what it holds.

  Args:
    candidates: Checkpoints, the newest first.
    load: Reads one.
    say: Takes a line about each checkpoint that is passed over.

  Raises:
    UserError: None can be read.
  """
  from flan_jax.checkpoints import native

  faults: dict[str, str] = {}
  for checkpoint in candidates:
    quiet = failures.Quiet()
    quiet.begin()
    found, why = native.attempted(
        checkpoint, functools.partial(load, checkpoint)
    )
    if why is not None:
      quiet.stay()
      faults[checkpoint.name] = why
      continue
    quiet.end()
    for name, reason in faults.items():
      say(
          f'warning: {checkpoint.parent / name} cannot be read ({reason});'
          f' {checkpoint.name} is used'
      )
    return checkpoint, cast(T, found)
  if len(candidates) == 1:
    (why,) = faults.values()
    raise errors.UserError(
        f'{candidates[0]}: cannot be read ({why}); name another checkpoint'
    )
  raise errors.UserError(
      f'{candidates[0].parent}: no checkpoint can be read ('
      + '; '.join(f'{name}: {why}' for name, why in faults.items())
      + ')'
  )


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
