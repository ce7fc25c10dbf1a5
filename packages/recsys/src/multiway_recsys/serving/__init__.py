"""From user vectors to a list that can be shown: candidates, rules, explanations and their picture."""
