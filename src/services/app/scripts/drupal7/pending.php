<?php
require_once DRUPAL_ROOT . '/includes/install.inc';
require_once DRUPAL_ROOT . '/includes/update.inc';
drupal_load_updates();
$pending = [];
foreach (update_get_update_list() as $module => $updates) {
    foreach (array_keys(isset($updates['pending']) ? $updates['pending'] : []) as $number) {
        $pending[] = "{$module}_update_$number";
    }
}
fanout_end([
    'installed' => true,
    'pending' => $pending,
    'maintenance' => (bool) variable_get('maintenance_mode', 0),
]);
