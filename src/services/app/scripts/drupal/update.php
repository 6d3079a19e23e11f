<?php
require_once 'core/includes/install.inc';
require_once 'core/includes/update.inc';
drupal_load_updates();
$start = [];
foreach (update_get_update_list() as $module => $updates) {
    if (isset($updates['start'])) {
        $start[$module] = $updates['start'];
    }
}
$done = 0;
$fanout_run = function (callable $step, string $what) use (&$done) {
    $context = ['sandbox' => [], 'results' => [], 'finished' => 1, 'message' => ''];
    do {
        $context['finished'] = 1;
        $step($context);
        foreach ($context['results'] as $results) {
            if (!empty($results['#abort'])) {
                fanout_end(['error' => "The update $what failed", 'changed' => $done > 0]);
            }
        }
    } while ($context['finished'] < 1);
    $done++;
};
$order = update_resolve_dependencies($start);
$dependencies = [];
foreach ($order as $function => $update) {
    $dependencies[$function] = !empty($update['reverse_paths']) ? array_keys($update['reverse_paths']) : [];
}
foreach ($order as $function => $update) {
    if (!$update['allowed']) {
        fanout_end(['error' => "The update $function can't be run: " . json_encode($update['missing_dependencies'] ?? [])]);
    }
    $fanout_run(function (&$context) use ($update, $function, $dependencies) {
        update_do_one($update['module'], $update['number'], $dependencies[$function], $context);
    }, $function);
}
drupal_flush_all_caches();
foreach (\Drupal::service('update.post_update_registry')->getPendingUpdateFunctions() as $function) {
    $fanout_run(function (&$context) use ($function) {
        update_invoke_post_update($function, $context);
    }, $function);
}
drupal_flush_all_caches();
fanout_end(['changed' => $done > 0, 'message' => "$done updates ran"]);
