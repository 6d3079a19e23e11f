<?php
require_once DRUPAL_ROOT . '/includes/install.inc';
require_once DRUPAL_ROOT . '/includes/update.inc';
drupal_load_updates();
update_fix_compatibility();
$start = [];
foreach (update_get_update_list() as $module => $updates) {
    if (isset($updates['start'])) {
        $start[$module] = $updates['start'];
    }
}
$order = update_resolve_dependencies($start);
$dependencies = [];
foreach ($order as $function => $update) {
    $dependencies[$function] = !empty($update['reverse_paths']) ? array_keys($update['reverse_paths']) : [];
}
$done = 0;
foreach ($order as $function => $update) {
    if (!$update['allowed']) {
        fanout_end(['error' => "The update $function can't be run", 'changed' => $done > 0]);
    }
    $context = ['sandbox' => [], 'results' => [], 'finished' => 1, 'message' => ''];
    do {
        $context['finished'] = 1;
        update_do_one($update['module'], $update['number'], $dependencies[$function], $context);
        if (!empty($context['results']['#abort'])) {
            fanout_end(['error' => "The update $function failed", 'changed' => $done > 0]);
        }
    } while ($context['finished'] < 1);
    $done++;
}
drupal_flush_all_caches();
fanout_end(['changed' => $done > 0, 'message' => "$done updates ran"]);
