<?php
$ran = \Drupal::service('cron')->run();
fanout_end($ran ? ['changed' => true, 'message' => 'cron ran'] : ['error' => 'Drupal says that cron did not run']);
