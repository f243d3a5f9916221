"""Ollama's templates by Go's own text/template, where Go is installed: apt-get install golang-go."""

import json
import shutil
import subprocess

import pytest

from tests.worker.export.test_chat_template import NAMED, as_trained
from worker.data.templates import TEMPLATES
from worker.export.chat_template import as_go

pytestmark = [pytest.mark.long, pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")]

# What is said has no white space around it: templates that trim it write it as it is, too.
SAID = (("user", "one"), ("assistant", "two"), ("user", 'three "quoted" \\ {{ braces }}'), ("assistant", "@@"))

# As Ollama's template.go hands over what it has: System, and Messages with their roles.
PROGRAM = """
package main

import ("bytes"; "encoding/json"; "os"; "text/template")

type Message struct { Role, Content string }
type Case struct { Template, System string; Messages []*Message }

func main() {
    var cases []Case
    if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
    written := []string{}
    for _, each := range cases {
        var text bytes.Buffer
        parsed := template.Must(template.New("").Option("missingkey=zero").Parse(each.Template))
        data := map[string]any{"System": each.System, "Messages": each.Messages, "Response": ""}
        if err := parsed.Execute(&text, data); err != nil { panic(err) }
        written = append(written, text.String())
    }
    json.NewEncoder(os.Stdout).Encode(written)
}
"""


@pytest.mark.timeout(600)
def test_every_template_writes_what_was_trained_without_the_first_bos(tokenizer, tmp_path):
    cases, wanted = [], []
    for name in NAMED:
        template = TEMPLATES[name]
        if template.thinks:  # an answer's thought is taken apart, which is beyond a template of Go
            continue
        for system in ("", "be brief"):
            trained = as_trained(template, tokenizer, system or None, list(SAID)).partition("@@")[0]
            wanted.append(trained.removesuffix(template.response.partition("{content}")[0]).removeprefix(tokenizer.bos_token))
            messages = [{"Role": role, "Content": content} for role, content in SAID[:-1]]
            first = [{"Role": "system", "Content": system}] if system else []
            system_text = system or template.default_system
            cases.append(
                {"Template": as_go(template, tokenizer), "System": system_text, "Messages": [*first, *messages]} | {"Name": name}
            )
    (tmp_path / "main.go").write_text(PROGRAM)
    asked = ["go", "run", tmp_path / "main.go"]
    done = subprocess.run(asked, input=json.dumps(cases), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for case, text, trained in zip(cases, json.loads(done.stdout), wanted, strict=True):
        assert text == trained, case["Name"]
    assert len(cases) > 80
