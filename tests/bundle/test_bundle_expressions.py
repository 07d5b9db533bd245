"""Config code that only describes passes; anything else is refused by name."""

from __future__ import annotations

import pytest

from radclear.bundle import UnsafeExpressionError, check_config
from radclear.bundle.expressions import check_expression


@pytest.mark.parametrize(
    "text",
    [
        "$import radclear.bundle",
        "$@bundle_root + '/models'",
        "$@classes[0]",
        "$@train#trainer.run()",
        "$-2 * (@a + 3) ** 2",
        "$radclear.bundle.best_device()",
        "$torch.device('cpu')",
        "$monai.utils.set_determinism(seed=@seed)",
        "$radclear.bundle.end(@study_run.finish())",
        "$radclear.bundle.store_trained(@best, studies={'train': @train#dataset})",
    ],
)
def test_descriptions_pass(text):
    check_expression(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$__import__('os').system('id')", "member of a package"),
        ("$import os", "imports from outside"),
        ("$import torch as monai", "renames"),
        ("$from os import system", "plain `import package`"),
        ("$import radclear; import os", "plain `import package`"),
        ("$eval('1')", "member of a package"),
        ("$(lambda: 1)()", "Lambda|member of a package"),
        ("$[x for x in @classes]", "ListComp"),
        ("$@network.__class__", "__class__"),
        ("$@network.forward.__globals__['os']", "__globals__"),
        ("$'{0.__class__}'.format(@network)", "format"),
        ("$torch.hub.load('a/b', 'c')", "torch.hub"),
        ("$torch.nn.functional.os.system('id')", "passes through 'os'"),
        ("$radclear.bundle.location.sys.exit()", "passes through 'sys'"),
        ("$radclear.bundle.location.json.loads('1')", "passes through 'json'"),
        ("$monai.bundle.run()", "monai.bundle.run"),
        ("$os.system('id')", "os.system"),
        ("$numpy.load('x')", "numpy.load"),
        ("$1 if @a else 2", "IfExp"),
        ("$(", "not an expression"),
        ("$@a.b().__init__", "__init__"),
    ],
)
def test_anything_else_is_refused(text, found):
    with pytest.raises(UnsafeExpressionError, match=found):
        check_expression(text)


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"a": {"_target_": "os.system", "command": "id"}}, "a#_target_"),
        ({"a": [{"_target_": "subprocess.run"}]}, "a#0#_target_"),
        ({"a": {"_target_": "torch.utils.cpp_extension.load_inline"}}, "cpp_extension"),
        ({"a": {"_target_": "radclear.bundle.pack.zipfile.ZipFile"}}, "zipfile"),
        ({"a": {"b": "$exit()"}}, "a#b"),
        ({"a": "%/tmp/other.json#run"}, "another place"),
    ],
)
def test_configs_are_searched_to_the_leaves(config, place):
    with pytest.raises(UnsafeExpressionError, match=place):
        check_config(config, source="evil.json")
