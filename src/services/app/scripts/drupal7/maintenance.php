<?php
$before = (bool) variable_get('maintenance_mode', 0);
variable_set('maintenance_mode', $fanout['on'] ? 1 : 0);
fanout_end(['changed' => $before !== $fanout['on'], 'maintenance' => $fanout['on']]);
