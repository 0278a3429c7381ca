"""Which hosts there are, and what is said when they are not all well."""

import argparse
import socket

from flan_jax import cli
from flan_jax import errors
from flan_jax import host_flags
from flan_jax import hosts
import jax
import pytest

_NAMES = (
    *('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'),
    *('SLURM_PROCID', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_RANK'),
    *('OMPI_COMM_WORLD_SIZE', 'JOB_COMPLETION_INDEX'),
    'KUBERNETES_SERVICE_HOST',
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  """An environment that says nothing of hosts, and no TPU."""
  for name in _NAMES:
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(host_flags, '_has_tpu', lambda: False)
  return monkeypatch


def _flags(*flags: str) -> host_flags.Flags:
  return host_flags.Flags.from_args(cli.parse(['train', *flags]))


@pytest.mark.parametrize('command', ['train', 'infer', 'eval'])
def test_every_command_that_uses_a_model_knows_the_flags(command):
  args = cli.parse([
      command,
      '--coordinator_address=10.0.0.1:8476',
      '--num_processes=4',
      '--process_id=2',
  ])
  assert host_flags.Flags.from_args(args) == host_flags.Flags(
      coordinator_address='10.0.0.1:8476', process_count=4, process_index=2
  )


def test_flags_win_over_the_environment(environment):
  environment.setenv('JAX_COORDINATOR_ADDRESS', 'a:1')
  environment.setenv('JAX_NUM_PROCESSES', '8')
  environment.setenv('JAX_PROCESS_ID', '3')
  assert _flags() == host_flags.Flags(
      coordinator_address='a:1', process_count=8, process_index=3
  )
  assert _flags('--process_index=5').process_index == 5


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--coordinator_address=a'], "--coordinator_address: .* not 'a'"),
        (['--process_count=two'], "--process_count: .* at least 1, not 'two'"),
        (['--process_index=-1'], "--process_index: .* at least 0, not '-1'"),
        (
            ['--process_count=2', '--process_index=2'],
            '--process_index: must be less than --process_count=2, not 2',
        ),
        (['--heartbeat_timeout=0'], '--heartbeat_timeout: .* at least 1'),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, words):
  with pytest.raises(errors.UserError, match=words):
    _flags(*flags)


def test_the_environment_is_named_where_it_is_wrong(environment):
  environment.setenv('JAX_NUM_PROCESSES', 'many')
  with pytest.raises(errors.UserError, match="JAX_NUM_PROCESSES: .* 'many'"):
    _flags()


@pytest.mark.parametrize(
    ('variables', 'flags', 'alone', 'several'),
    [
        ({}, [], False, False),
        ({}, ['--process_count=1'], True, False),
        ({}, ['--process_count=2'], False, True),
        ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '4'}, [], False, True),
        ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '1'}, [], True, False),
        ({'SLURM_NTASKS': '1'}, ['--process_count=2'], False, True),
        ({'KUBERNETES_SERVICE_HOST': 'x'}, [], True, False),
        (
            {'KUBERNETES_SERVICE_HOST': 'x', 'JOB_COMPLETION_INDEX': '0'},
            [],
            False,
            True,
        ),
    ],
)
def test_what_is_known_without_jax(
    variables, flags, alone, several, environment
):
  for name, value in variables.items():
    environment.setenv(name, value)
  assert _flags(*flags).alone() == alone
  assert _flags(*flags).may_be_several() == several


def test_one_host_works_alone(environment):
  called = []
  environment.setattr(
      jax.distributed, 'initialize', lambda *a, **k: called.append(a)
  )
  with hosts.Session.from_args(
      argparse.Namespace(process_count='1')
  ) as session:
    assert session.together(lambda: 5) == 5
    session.agree(lambda: pytest.fail('there is nobody to agree with'))
    with pytest.raises(errors.UserError, match='wrong'):
      session.together(_wrong)
    assert session.first and session.count == 1
  assert not called


def _wrong():
  raise errors.UserError('wrong')


def test_a_mistake_is_said_before_jax_is_asked(environment):
  environment.setattr(
      jax.distributed, 'initialize', lambda *a, **k: pytest.fail('called')
  )
  with pytest.raises(errors.UserError, match='wrong'):
    hosts.Session.from_args(argparse.Namespace()).together(_wrong)


@pytest.mark.parametrize(
    ('flags', 'error', 'words'),
    [
        (
            {'coordinator_address': 'a:1', 'process_index': 1},
            ValueError('Number of processes must be defined.'),
            'all three are needed .*Number of processes',
        ),
        ({}, RuntimeError('403'), 'could not be found out .403.; name them'),
        # JAX knows no cluster; or it is in use already, as in a notebook.
        ({}, ValueError('coordinator_address should be defined.'), None),
        ({}, RuntimeError('initialize() must be called before any'), None),
    ],
)
def test_what_jax_says_of_the_cluster(flags, error, words, environment):
  def initialize(*args, **kwargs):
    raise error

  environment.setattr(jax.distributed, 'initialize', initialize)
  session = hosts.Session(host_flags.Flags(**flags))
  if words is None:
    assert session.together(lambda: 7) == 7
    assert session.count == 1
  else:
    with pytest.raises(errors.UserError, match=words):
      session.together(lambda: 7)


def test_a_port_in_use_is_named(environment):
  with socket.socket() as taken:
    taken.bind(('', 0))
    taken.listen()
    port = taken.getsockname()[1]
    session = hosts.Session(
        host_flags.Flags(
            coordinator_address=f'localhost:{port}',
            process_count=2,
            process_index=0,
        )
    )
    with pytest.raises(errors.UserError, match=f'listen on port {port} .*in u'):
      session.together(lambda: 7)


def test_the_first_difference_is_named_with_values_and_hosts():
  facts = [{'A': 1, 'B': 2}, {'A': 1, 'B': 2}, {'A': 1, 'B': 3, 'C': 4}]
  assert 'B is 2 on host 0 and 3 on host 2 (and C)' in hosts._differences(facts)


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (
            ValueError(
                'UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/pair.cc:5]'
                ' Connection closed by peer [127.0.0.1]:1'
            ),
            (
                'UNKNOWN: Gloo AllGather failed: Connection closed by peer'
                ' [127.0.0.1]:1'
            ),
        ),
        (ValueError('shapes (3,) and (4,) do not fit'), None),
        (errors.UserError('gloo: there is no such mixture'), None),
    ],
)
def test_a_lost_host_is_told_from_other_errors(error, reason):
  assert hosts._lost(error) == reason
  wrapped = errors.UserError('a checkpoint could not be written')
  wrapped.__cause__ = error
  assert hosts._lost(wrapped) == reason
