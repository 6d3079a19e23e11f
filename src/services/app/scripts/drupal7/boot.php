<?php
define('DRUPAL_ROOT', $fanout['docroot']);
$base_url = $fanout['url'];
require_once DRUPAL_ROOT . '/includes/bootstrap.inc';
drupal_bootstrap(DRUPAL_BOOTSTRAP_FULL);
