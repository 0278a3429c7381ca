"""Functions named 'module:function' are found, or what is wrong is said."""

from flan_jax import errors
from flan_jax.data import functions
import pytest


def test_a_function_of_an_installed_module():
  assert functions.load('os.path:join', 'x') is __import__('os').path.join


def test_a_module_beside_the_working_directory(tmp_path, monkeypatch):
  (tmp_path / 'module_in_cwd.py').write_text('def f(): return 7\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr('sys.path', [p for p in __import__('sys').path if p])
  assert functions.load('module_in_cwd:f', 'x')() == 7


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('no_such_module_here:f', "no Python module 'no_such_module_here'"),
        ('os.no_such_part:f', "no Python module 'os.no_such_part'"),
        ('os.path:jion', "no function 'jion'. Did you mean join"),
        ('os.path:sep', "no function 'sep'"),
        ('os.path', "is not 'module:function'"),
        (':f', "is not 'module:function'"),
    ],
)
def test_what_is_not_there_is_named(spec, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    functions.load(spec, 'rte.yaml: fields')
  assert str(caught.value).startswith('rte.yaml: fields: ')


@pytest.mark.parametrize(
    ('code', 'message'),
    [
        ('x = 1\ny = 1 / 0\n', r'ZeroDivisionError: .*\(.*bad_0.py:2\)'),
        ('def f(:\n', r'SyntaxError: .*bad_1.py, line 1'),
        ('import not_installed_at_all\n', r"No module named 'not_installed"),
    ],
)
def test_a_module_that_fails_says_where(tmp_path, monkeypatch, code, message):
  name = f'bad_{["x", "d", "i"].index(code[0])}'
  (tmp_path / f'{name}.py').write_text(code)
  monkeypatch.syspath_prepend(str(tmp_path))
  with pytest.raises(errors.UserError, match=message) as caught:
    functions.load(f'{name}:f', 'here')
  assert f"importing '{name}' fails" in str(caught.value)
