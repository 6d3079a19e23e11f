<?php
drupal_flush_all_caches();
fanout_end(['changed' => true, 'message' => 'all caches were rebuilt']);
