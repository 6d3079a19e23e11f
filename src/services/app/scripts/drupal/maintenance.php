<?php
$before = (bool) \Drupal::state()->get('system.maintenance_mode');
\Drupal::state()->set('system.maintenance_mode', $fanout['on']);
fanout_end(['changed' => $before !== $fanout['on'], 'maintenance' => $fanout['on']]);
