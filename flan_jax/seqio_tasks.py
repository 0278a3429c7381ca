"""Every dataset and mixture as a SeqIO task or mixture of the same name.

    import seqio
    from flan_jax import seqio_tasks

    seqio_tasks.configure(vocabulary='t5.model', tfds_data_dir='/data/tfds')
    task = seqio.get_mixture_or_task('rte:template_3:no_options')

For T5X this module is all that a gin file needs:
MIXTURE_OR_TASK_MODULE = 'flan_jax.seqio_tasks'.

Nothing is registered by the import. There are more names than could be listed
(each dataset times templates, shots and options), so a name that SeqIO does not
know is registered when it is first looked up, through `seqio.TaskRegistry`,
`seqio.MixtureRegistry` or anything built on them. `register` does the same
beforehand. What a user has registered under a name keeps it.

Examples, their order, templates and mixing rates are those of our own
pipeline, epoch by epoch. SeqIO's metrics are ours too; they take predictions as
text, so what `:rank` names is the same as `:generate` here.
"""

from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence
import dataclasses
import functools
import os
from typing import Any

from flan_jax import vocabularies
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import few_shot
from flan_jax.data import mixtures as mixtures_lib
from flan_jax.data import rows
from flan_jax.data import seqio_bridge
from flan_jax.data import tasks as tasks_lib
from flan_jax.evaluation import metrics
from flan_jax.evaluation import scoring
import seqio


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What tasks are made with.

  Attributes:
    vocabulary: A SentencePiece model, or 'bytes'; FLAN_JAX_VOCABULARY by
      default, else the vocabulary of the embedded mixture.
    mixtures: Files and folders of further declarations; FLAN_JAX_MIXTURES by
      default, separated as in PATH.
    cache_dir: Where rows are stored; FLAN_JAX_CACHE by default.
    tfds_data_dir: Where TFDS datasets have been prepared; TFDS_DATA_DIR by
      default.
    data_dir: Where files of sources are looked for last.
    seed: Of templates, order, options and exemplars. SeqIO's own seeds play no
      part, so that every reader of a task sees the same examples.
    few_shot_layout: How exemplars stand before the query.
  """

  vocabulary: str = dataclasses.field(
      default_factory=lambda: os.environ.get(
          'FLAN_JAX_VOCABULARY', 'mixtures/mini/mini.model'
      )
  )
  mixtures: Sequence[str] = dataclasses.field(
      default_factory=lambda: tuple(
          filter(
              None, os.environ.get('FLAN_JAX_MIXTURES', '').split(os.pathsep)
          )
      )
  )
  cache_dir: str | None = None
  tfds_data_dir: str | None = None
  data_dir: str | None = None
  seed: int = 0
  few_shot_layout: few_shot.Layout = few_shot.Layout()  # noqa: RUF009


class _Factory:
  """Makes SeqIO tasks and mixtures under one setting."""

  def __init__(self, settings: Settings):
    self._settings = settings
    self._catalogue = catalogue_lib.Catalogue(settings.mixtures)
    self._store = rows.RowStore(
        settings.cache_dir,
        rows.SourceSettings(
            tfds_data_dir=settings.tfds_data_dir, data_dir=settings.data_dir
        ),
    )
    self.made: list[tuple[Any, str]] = []

  @functools.cached_property
  def _vocabulary(self) -> vocabularies.Vocabulary:
    return vocabularies.load(self._settings.vocabulary)

  @functools.cached_property
  def _features(self) -> dict[str, seqio.Feature]:
    # One vocabulary object for all: SeqIO compares those of a mixture's tasks.
    vocabulary = seqio_bridge.seqio_vocabulary(self._vocabulary)
    return {
        name: seqio.Feature(vocabulary=vocabulary, add_eos=True)
        for name in ('inputs', 'targets')
    }

  def knows(self, name: str) -> bool:
    """Whether the name before the first ':' is a dataset's or mixture's."""
    return self._catalogue.has(name.partition(':')[0])

  def provide(self, name: str, only: type | None = None) -> None:
    """Registers what a name means.

    Args:
      name: A task's or mixture's name.
      only: Register it only if it belongs into this registry.

    Raises:
      UserError: The name asks for something that the dataset has not.
    """
    found = mixtures_lib.resolve(self._catalogue, name)
    if isinstance(found, tasks_lib.Task):
      made: seqio.Task | seqio.Mixture = self._task(found)
      registry: Any = seqio.TaskRegistry
    else:
      made = self._mixture(found)
      registry = seqio.MixtureRegistry
    if only in (None, registry):
      registry.add_provider(name, made)
      self.made.append((registry, name))

  def _task(self, task: tasks_lib.Task, cap: int | None = None) -> seqio.Task:
    choices = task.dataset.choices
    return seqio_bridge.RenderedTask(
        name=task.name,
        source=seqio_bridge.RenderedSource(
            task,
            self._store,
            self._vocabulary,
            seed=self._settings.seed,
            cap=cap,
            layout=self._settings.few_shot_layout,
        ),
        output_features=self._features,
        preprocessors=[
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        postprocess_fn=_postprocess,
        metric_fns=[
            _metric_fn(name, choices.names if choices else ())
            for name in task.dataset.metrics
        ],
        # The source shuffles all it has; a buffer would only cost memory.
        shuffle_buffer_size=None,
    )

  def _mixture(self, mixture: mixtures_lib.Mixture) -> seqio.Mixture:
    caps = mixture.caps
    made = [
        self._task(task, None if caps is None else int(caps[place]))
        for place, (task, _) in enumerate(mixture.members)
    ]
    rate_of = _rates(mixture, made)
    return seqio.Mixture(mixture.name, [(task, rate_of) for task in made])


def _rates(
    mixture: mixtures_lib.Mixture, made: Sequence[seqio.Task]
) -> Callable[[seqio.Task], float]:
  """Returns the function that gives a member's mixing rate.

  All are computed when the first one is asked for: they depend on the members'
  rows, and reading those may take long.
  """

  @functools.cache
  def by_name() -> dict[str, float]:
    found = mixtures_lib.rates(mixture, [_size(task) for task in made])
    names = [task.name for task in made]
    return dict(zip(names, found.tolist(), strict=True))

  return lambda task: by_name()[task.name]


def _size(task: seqio.Task) -> int:
  # What is mixed for evaluation only has no training examples to count.
  split = 'train' if 'train' in task.splits else task.splits[0]
  return task.num_input_examples(split)


def _postprocess(
    text: str,
    *,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
    **_: Any,
) -> Any:
  """Makes an `Example` of a target; a prediction stays the text it is."""
  if not is_target:
    return text
  assert example is not None
  return seqio_bridge.example_of(example)


def _metric_fn(
    name: str, classes: Sequence[str]
) -> Callable[..., dict[str, float]]:
  """Returns a metric in the form that SeqIO wants."""

  # SeqIO tells kinds of metrics by the names of their arguments.
  def metric_fn(targets, predictions):
    values = scoring.score(
        targets,
        [scoring.Answer(prediction) for prediction in predictions],
        [name],
        'generate',
        classes,
    )
    return {value: values[value] for value in metrics.METRICS[name].values}

  metric_fn.__name__ = name
  return metric_fn


class _Registered(KeysView):
  """The names in a registry; asking for one of ours puts it there."""

  def __init__(self, registry: type, names: KeysView):
    self._registry = registry
    self._names = names

  def __contains__(self, name: object) -> bool:
    return name in self._names or _provided(self._registry, name)

  def __iter__(self) -> Iterator[str]:
    return iter(self._names)

  def __len__(self) -> int:
    return len(self._names)


_factory: _Factory | None = None


def configure(**settings: Any) -> None:
  """Sets what tasks are made with; see `Settings` for the names.

  What is not named gets its default. Tasks and mixtures of ours that have been
  registered are forgotten, and made anew when they are asked for.
  """
  global _factory
  chosen = Settings(**settings)
  if _factory is not None:
    for registry, name in _factory.made:
      registry.remove(name)
  _factory = _Factory(chosen)


def register(*names: str) -> None:
  """Registers tasks and mixtures now, instead of when they are looked up.

  Raises:
    UserError: A name is unknown, or asks for what its dataset has not.
  """
  for name in names:
    if not any(name in _names_of(registry) for registry in _LOOKUPS):
      _current().provide(name)


def _current() -> _Factory:
  if _factory is None:
    configure()
  assert _factory is not None
  return _factory


def _provided(registry: type, name: object) -> bool:
  """Registers `name` if it is ours and belongs there; says if it does."""
  if not isinstance(name, str) or not _current().knows(name):
    return False
  if any(name in _names_of(each) for each in _LOOKUPS):
    return False  # It has its meaning, in the other registry.
  _current().provide(name, only=registry)
  return name in _names_of(registry)


# SeqIO's own look-ups, as they were before the hooks.
_LOOKUPS = {
    registry: (registry.names, registry.get)
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry)
}


def _names_of(registry: type) -> KeysView:
  return _LOOKUPS[registry][0]()


def _hook(registry: type) -> None:
  """Lets a registry's two ways of looking a name up find ours."""
  _, get = _LOOKUPS[registry]

  def names(cls):
    del cls
    return _Registered(registry, _names_of(registry))

  def get_or_provide(cls, name):
    del cls
    if name not in _names_of(registry):
      _provided(registry, name)
    return get(name)

  registry.names = classmethod(names)  # type: ignore[attr-defined]
  registry.get = classmethod(get_or_provide)  # type: ignore[attr-defined]


for _registry in _LOOKUPS:
  _hook(_registry)
