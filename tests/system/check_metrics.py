# SPDX-License-Identifier: MIT
#
# check_metrics.py FILE: FILE must be OpenMetrics text to the letter, as prometheus_client's strict parser reads it;
# prints its samples, one a line: NAME VALUE.

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

with open(sys.argv[1], encoding="utf-8") as file:
    families = list(text_string_to_metric_families(file.read()))
for family in families:
    if not family.documentation:
        sys.exit(f"{family.name}: no HELP")
    for sample in family.samples:
        print(sample.name, sample.value)
