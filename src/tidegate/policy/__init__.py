"""Rules: who may ask for what, when, for how long, and who must approve.

Bottom up: `requirement` (who must approve) and `scanner` (a file into statements), `finding` (what
is wrong with a rule), `form` and `engine` (Cedar: a statement into its form, a question into its
answer), `rules` (files into a rule set), then `decide` (what a rule set says of one ask) and `lint`
(what is odd about it beside a catalogue). Nothing here knows of requests, votes or grants.
"""
