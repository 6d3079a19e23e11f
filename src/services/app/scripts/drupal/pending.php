<?php
require_once 'core/includes/install.inc';
require_once 'core/includes/update.inc';
drupal_load_updates();
$pending = [];
foreach (update_get_update_list() as $module => $updates) {
    foreach (array_keys($updates['pending'] ?? []) as $number) {
        $pending[] = "{$module}_update_$number";
    }
}
foreach (\Drupal::service('update.post_update_registry')->getPendingUpdateFunctions() as $function) {
    $pending[] = $function;
}
fanout_end([
    'installed' => true,
    'pending' => $pending,
    'maintenance' => (bool) \Drupal::state()->get('system.maintenance_mode'),
]);
