"""What T5X is given: gin files that it reads, and names that SeqIO knows."""

import re

import gin.config_parser
import pytest
import seqio

# The macros of T5X's own run files, t5x/configs/runs/*.gin, and those that its
# models leave open.
_MODEL = {'DROPOUT_RATE'}
_MACROS = {
    'finetune': _MODEL
    | {
        'MODEL_DIR', 'MIXTURE_OR_TASK_NAME', 'TASK_FEATURE_LENGTHS',
        'MIXTURE_OR_TASK_MODULE', 'TRAIN_STEPS', 'INITIAL_CHECKPOINT_PATH',
        'USE_CACHED_TASKS', 'BATCH_SIZE', 'EVAL_STEPS', 'EVAL_PERIOD',
        'EVALUATOR_USE_MEMORY_CACHE', 'EVALUATOR_NUM_EXAMPLES',
        'JSON_WRITE_N_RESULTS', 'USE_HARDWARE_RNG', 'RANDOM_SEED',
        'TRAIN_STEPS_RELATIVE',
    },
    'eval': _MODEL
    | {
        'MIXTURE_OR_TASK_NAME', 'CHECKPOINT_PATH', 'EVAL_OUTPUT_DIR',
        'TASK_FEATURE_LENGTHS', 'MIXTURE_OR_TASK_MODULE',
    },
    'infer': _MODEL
    | {
        'MIXTURE_OR_TASK_NAME', 'TASK_FEATURE_LENGTHS', 'CHECKPOINT_PATH',
        'INFER_OUTPUT_DIR', 'MIXTURE_OR_TASK_MODULE',
    },
}  # fmt: skip


class _Delegate(gin.config_parser.ParserDelegate):

  def configurable_reference(self, name, evaluate):
    return name, evaluate

  def macro(self, name):
    return name


@pytest.fixture(params=sorted(_MACROS))
def run_file(request, root):
  return request.param, root / 'gin' / 't5x' / f'{request.param}.gin'


def _statements(path):
  with path.open() as file:
    yield from gin.config_parser.ConfigParser(file, _Delegate())


def test_files_set_macros_that_t5x_has(run_file):
  name, path = run_file
  parser = gin.config_parser
  statements = list(_statements(path))
  bindings = [s for s in statements if isinstance(s, parser.BindingStatement)]
  macros = {s.selector for s in bindings if not s.arg_name}
  assert macros <= _MACROS[name]
  assert {'MIXTURE_OR_TASK_MODULE', 'TASK_FEATURE_LENGTHS'} <= macros
  others = {f'{s.selector}.{s.arg_name}' for s in bindings if s.arg_name}
  assert others <= {
      'utils.SaveCheckpointConfig.period',
      'utils.SaveCheckpointConfig.keep',
  }
  (included,) = [
      s for s in statements if isinstance(s, parser.IncludeStatement)
  ]
  assert included.filename == f't5x/configs/runs/{name}.gin'
  imported = {
      s.module for s in statements if isinstance(s, parser.ImportStatement)
  }
  assert 'flan_jax.t5x_tasks' in imported


def test_commands_name_what_must_be_set(run_file):
  name, path = run_file
  text = path.read_text()
  named = set(re.findall(r'--gin\.([A-Z_]+)=', text))
  needed = {
      'finetune': {'MODEL_DIR', 'INITIAL_CHECKPOINT_PATH'},
      'eval': {'CHECKPOINT_PATH', 'EVAL_OUTPUT_DIR'},
      'infer': {'CHECKPOINT_PATH', 'INFER_OUTPUT_DIR'},
  }
  assert named == needed[name] | {'MIXTURE_OR_TASK_NAME'}
  # A model's file requires DROPOUT_RATE, so it must stand before the run's.
  assert text.index('t5_1_1/small.gin') < text.index(f'gin_file=gin/t5x/{name}')


def test_names_are_seqios_once_the_module_is_there():
  from flan_jax import t5x_tasks  # noqa: F401

  task = seqio.get_mixture_or_task('rte:no_options')
  assert isinstance(task, seqio.Task)
  mixture = seqio.get_mixture_or_task('mini')
  assert isinstance(mixture, seqio.Mixture)
  assert len(mixture.tasks) > 5
  assert set(mixture.output_features) == {'inputs', 'targets'}
