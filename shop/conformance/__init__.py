"""The conformance kit: asks a participant in any language, over HTTP alone, whether it keeps its half of the protocol.

`two_phase/README.md` says what a participant must do; each rule here tries one sentence of it.
Nothing is looked up inside the participant: what it has done shows in what it answers next. Only
its own branches are touched, and none is left prepared.
"""
