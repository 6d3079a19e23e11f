<?php
fanout_end(drupal_cron_run()
    ? ['changed' => true, 'message' => 'cron ran']
    : ['error' => 'Drupal says that cron did not run']);
